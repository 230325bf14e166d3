"""Puts an adapter beside the frozen weights of a model, in place: the model stays the class of
Transformers that it was, so tasks, heads and engines know it as before.

PEFT makes the adapter, and reads it without raymill. What is of the task alone is trained whole: a
head of classification or tagging, and every layer that the base has no weights for.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from cluster.errors import UserError
from trainers.methods import bottleneck, quantized, virtual_tokens
from trainers.methods.config import (
    AdaLora,
    Adapting,
    Bottleneck,
    Ia3,
    Lora,
    LowRank,
    Prefix,
    Prompt,
    PTuning,
    VirtualTokens,
)
from trainers.methods.layers import linear_layers, trained_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "default"
"""PEFT's name of the one adapter that there is."""
TASK_TYPES = {
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
}


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model with an adapter in it."""

    model: "PreTrainedModel"
    adapter: Adapting
    base: str
    """The folder or the hub id of its frozen weights."""
    peft: PeftModel | None
    """PEFT's view of the same model; None for an adapter that is not PEFT's."""
    whole: list[str]
    """The names of the modules that are trained as they are."""

    @property
    def trained(self) -> dict[str, Tensor]:
        """All that is trained, by its name in the model."""
        return {
            name: weight for name, weight in self.model.named_parameters() if weight.requires_grad
        }


def adapt(
    model: "PreTrainedModel", adapter: Adapting, device: torch.device | None = None
) -> Adapted:
    """Freezes the model's weights, rounded on the device where the adapter says so, and puts the
    adapter beside them. Raises UserError where it does not suit the model."""
    whole = trained_whole(model)
    base = str(model.name_or_path)
    if Path(base).expanduser().is_dir():
        base = str(Path(base).expanduser().absolute())
    if isinstance(adapter, Bottleneck):
        bottleneck.attach(model, adapter.size, whole)
        return Adapted(model, adapter, base, None, whole)
    if isinstance(adapter, Prefix):
        _refuse_prefix(model)
    is_outline = model.device.type == "meta"  # of a plan: nothing is there to be rounded
    if isinstance(adapter, Lora) and adapter.base_bits is not None and not is_outline:
        quantized.quantize(model, adapter.base_bits, whole, device or model.device)
    config = _config(model, adapter, whole)
    peft = get_peft_model(model, config, ADAPTER)
    if isinstance(adapter, VirtualTokens):
        virtual_tokens.attach(model, peft)
    return Adapted(model, adapter, base, peft, whole)


def _config(model: "PreTrainedModel", adapter: Adapting, whole: list[str]) -> PeftConfig:
    shared: dict[str, Any] = {"task_type": _task_type(model), "modules_to_save": whole[:] or None}
    if isinstance(adapter, LowRank):
        shared |= {
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "target_modules": _targets(model, adapter, whole),
        }
    match adapter:
        case Lora():
            return LoraConfig(
                r=adapter.rank, use_rslora=adapter.rslora, use_dora=adapter.dora, **shared
            )
        case AdaLora():  # whose budget is followed by rank_budget.py, not by PEFT's clock
            return AdaLoraConfig(
                init_r=adapter.initial_rank, target_r=adapter.rank, total_step=1, **shared
            )
        case Ia3():
            return IA3Config(**_scaled(model), **shared)
        case Prefix():
            return PrefixTuningConfig(num_virtual_tokens=adapter.tokens, **shared)
        case Prompt():
            return PromptTuningConfig(
                num_virtual_tokens=adapter.tokens,
                num_transformer_submodules=1,  # of an encoder-decoder the encoder alone
                prompt_tuning_init="SAMPLE_VOCAB",
                **shared,
            )
        case PTuning():
            return PromptEncoderConfig(
                num_virtual_tokens=adapter.tokens,
                num_transformer_submodules=1,
                encoder_hidden_size=adapter.hidden_size,
                **shared,
            )
        case _:
            raise AssertionError(f"no configuration of PEFT for {adapter.name}")


def _task_type(model: "PreTrainedModel") -> TaskType:
    for end, task_type in TASK_TYPES.items():
        if type(model).__name__.endswith(end):
            return task_type
    return TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM


def _targets(model: "PreTrainedModel", adapter: LowRank, whole: Sequence[str]) -> list[str]:
    known = [*linear_layers(model, whole)]
    if adapter.targets == "all-linear":
        return known
    chosen = []
    for target in adapter.targets:
        ends = [name for name in known if name == target or name.endswith(f".{target}")]
        if not ends:
            names = sorted({name.rpartition(".")[2] for name in known})
            raise UserError(
                f"finetune.method.targets: {target!r} is no linear layer of this model; there are "
                f"{', '.join(names)}"
            )
        chosen += ends
    return chosen


def _scaled(model: "PreTrainedModel") -> dict[str, Any]:
    """The layers whose outputs, and of feed-forward parts whose inputs, IA3 scales."""
    kind = model.config.model_type
    known = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    if kind not in known:
        raise UserError(
            f"finetune.method: ia3 does not know where {kind!r} has keys and values; take lora, or "
            f"one of {', '.join(sorted(known))}"
        )
    feed_forward = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind]
    return {"target_modules": known[kind], "feedforward_modules": feed_forward}


def _refuse_prefix(model: "PreTrainedModel") -> None:
    kind = model.config.model_type
    if model.config.is_encoder_decoder:
        raise UserError(
            f"finetune.method: prefix is not for encoder-decoders such as {kind!r} yet; take "
            "prompt, p_tuning or lora"
        )
    if not virtual_tokens.takes_cache(model):
        raise UserError(
            f"finetune.method: prefix needs a model that takes keys and values, {kind!r} takes "
            "none; take lora"
        )


@contextlib.contextmanager
def as_the_base(model: nn.Module) -> Iterator[None]:
    """Within it the model answers as before its adapter, heads included, without dropout and
    without gradients: a reference, such as that of preference losses (Rafailov et al. 2023). As
    dropout would draw another mask each time, a margin would not be 0 at the first step."""
    switched = [
        module
        for module in model.modules()
        if isinstance(
            module,
            BaseTunerLayer
            | AuxiliaryTrainingWrapper
            | virtual_tokens.InFront
            | bottleneck.WithBottleneck,
        )
    ]
    was_training = model.training
    model.eval()
    for module in switched:
        module.enable_adapters(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for module in switched:
            module.enable_adapters(True)
        model.train(was_training)
