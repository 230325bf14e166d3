"""From an engine to the folder of an adapter, past a gate.

ZeRO has the trained weights in parts on all ranks; they are put together in fp32, as those of whole
models are. PEFT's own writer would write empty tensors (huggingface/peft#2892), and merging inside
an engine writes what is thrown away. So rank 0 writes the adapter, and another process, without an
engine, reads it as anybody would, holds its answers against the engine's, and merges it where that
is asked for. What fails there is not published.
"""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import save_file
from torch import Tensor

from cluster.errors import InfrastructureError
from cluster.store.artifacts import Draft
from cluster.store.bases import GGUF, PACKAGE, as_folder, lasting_name
from trainers.engine.training_config import Training
from trainers.methods import gate
from trainers.methods.adapt import ADAPTER, Adapted
from trainers.methods.config import VirtualTokens
from trainers.methods.loading import WEIGHTS, files_of, model_id, place_of, revision_of
from trainers.methods.record import AdapterRecord
from trainers.models import build as models
from trainers.models.export import Whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def export(
    engine: Any,
    adapted: Adapted,
    tokenizer: "PreTrainedTokenizerFast",
    draft: Draft,
    settings: Training,
) -> None:
    """Called by every rank; rank 0 writes. Raises GateRefused where what was written does not
    answer as what was trained."""
    whole = Whole(engine)
    weights = {name: whole(weight).cpu().contiguous() for name, weight in adapted.trained.items()}
    probe = _probe(engine, adapted.model.config)
    if dist.get_rank() != 0:
        return
    base = lasting_name(settings.base, adapted.base, draft.storage)
    with draft.folder() as folder:
        write(adapted, base, weights, folder)
        tokenizer.save_pretrained(folder)
        call_in_plain_process(
            gate.check,
            folder,
            probe,
            gate.TOLERANCES[settings.precision],
            sum(weight.numel() for weight in weights.values()),
        )


def write(adapted: Adapted, base: str, weights: Mapping[str, Tensor], folder: Path) -> None:
    """All of an adapter's folder but the tokenizer. `base` is its lasting name, and `weights` are
    those that were trained, by their names in the model. Raises InfrastructureError where the base
    is gone."""
    models.save_config(adapted.model, folder)
    place = place_of(base)
    if place is None:
        raise InfrastructureError(f"base: {base} is not there any more; put it back, and run again")
    record = AdapterRecord(
        method=adapted.adapter.model_dump(mode="json"),
        architecture=type(adapted.model).__name__,
        base=base,
        base_model=model_id(place),
        base_files=files_of(place),
        trained_whole=adapted.whole,
        base_revision=revision_of(place),
    )
    record.write(folder)
    state = {name: weight.clone() for name, weight in _state(adapted, weights).items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    if adapted.peft is not None:
        config = adapted.peft.peft_config[ADAPTER]
        # PEFT's own readers know folders and hub ids, but neither packages nor GGUF files.
        is_of_raymill = base.startswith(PACKAGE) or place.suffix == GGUF
        config.base_model_name_or_path = str(as_folder(place)) if is_of_raymill else base
        config.revision = record.base_revision
        was, config.inference_mode = config.inference_mode, True
        config.save_pretrained(str(folder))
        config.inference_mode = was


def _state(adapted: Adapted, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the file, by the names that PEFT reads."""
    if adapted.peft is None:
        return dict(weights)
    if isinstance(adapted.adapter, VirtualTokens):
        return _state_of_virtual_tokens(adapted, adapted.peft, weights)
    state = {f"base_model.model.{name}": weight for name, weight in weights.items()}
    made: dict[str, Tensor] = get_peft_model_state_dict(
        adapted.peft, state_dict=state, adapter_name=ADAPTER, save_embedding_layers=False
    )
    return made


def _state_of_virtual_tokens(
    adapted: Adapted, peft: PeftModel, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The embeddings that the encoder makes, and what is trained whole."""
    begin = f"virtual_tokens.encoder.{ADAPTER}."
    own = {name.removeprefix(begin): one for name, one in weights.items() if begin in name}
    encoder: Any = peft.prompt_encoder[ADAPTER]
    if [*own] != ["embedding.weight"]:  # made anew: that of the engine may be in parts
        encoder = type(encoder)(peft.peft_config[ADAPTER])
        encoder.load_state_dict(own)
        with torch.no_grad():
            own = {"embedding.weight": encoder(torch.arange(len(own["embedding.weight"])))}
    state = {"prompt_embeddings": own["embedding.weight"]}
    for name, module in adapted.model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            inner = f"{name}.modules_to_save.{ADAPTER}."
            state |= {
                f"base_model.{name}.{one.removeprefix(inner)}": weight
                for one, weight in weights.items()
                if one.startswith(inner)
            }
    return state


@torch.no_grad()
def _probe(engine: Any, config: Any) -> gate.Probe:
    """What the trained model says of some tokens. Every rank takes part: under ZeRO-3 each has a
    part of every weight, and only in the engine's own forward DeepSpeed gathers what a layer reads
    of another one, as DoRA does."""
    engine.eval()
    inputs = gate.inputs(config)
    on_device = {name: value.to(engine.device) for name, value in inputs.items()}
    with torch.compiler.set_stance("force_eager"):  # to compile it for once would take longer
        logits, _ = engine(on_device, learns=False)
    return gate.Probe(inputs, logits.float().cpu())


def call_in_plain_process(function: Callable[..., None], *arguments: Any) -> None:
    """Calls it in a new process, without DeepSpeed; raises what it raises."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(function, *arguments).result()
