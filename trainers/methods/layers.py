"""The layers of a model by what a method does with them: adapt, round, or train whole. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn
from transformers.pytorch_utils import Conv1D

from trainers.models.build import TASK_HEADS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def trained_whole(model: "PreTrainedModel") -> list[str]:
    """The names of the modules that are trained as they are beside an adapter: those of a head that
    is of a task, and those that the base had no weights for."""
    body, names = model.base_model, []
    if type(model).__name__.endswith(TASK_HEADS):
        names = [
            name
            for name, child in model.named_children()
            if child is not body and any(True for _ in child.parameters())
        ]
    absent = {name.rpartition(".")[0] for name in getattr(model, "absent_in_base", ())}
    return names + sorted(name for name in absent if not _is_inside(name, names))


def linear_layers(model: "PreTrainedModel", whole: Sequence[str]) -> dict[str, nn.Linear | Conv1D]:
    """By name all layers that multiply by a matrix, but for the output layer and what is trained
    whole."""
    output = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D)
        and layer is not output
        and not _is_inside(name, whole)
    }


def rounded_layers(model: "PreTrainedModel", whole: Sequence[str]) -> dict[str, nn.Linear]:
    """Of these layers, those that `base_bits` rounds."""
    layers = linear_layers(model, whole)
    return {name: layer for name, layer in layers.items() if type(layer) is nn.Linear}


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
