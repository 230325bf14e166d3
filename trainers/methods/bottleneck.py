"""Bottleneck adapters (Houlsby et al. 2019): with h the output of the attention, or of the
feed-forward part, of a layer, before it is added to the residual,

    h ← h + W_up gelu(W_down h)

W_up begins as 0, so training begins at the base's own answers. PEFT has no such method.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from cluster.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BERTS = ("output.dense",)
LLAMAS = ("self_attn.o_proj", "mlp.down_proj")
ENDS: Mapping[str, Sequence[str]] = {
    "bert": BERTS,
    "roberta": BERTS,
    "xlm-roberta": BERTS,
    "electra": BERTS,
    "modernbert": ("attn.Wo", "mlp.Wo"),
    "llama": LLAMAS,
    "mistral": LLAMAS,
    "qwen2": LLAMAS,
    "qwen3": LLAMAS,
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "t5": ("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"),
}
"""By model type, how the names of the layers end that close an attention or a feed-forward part."""


def attach(model: "PreTrainedModel", size: int, whole: Sequence[str]) -> None:
    """Freezes the model's weights but for the modules that are trained whole, and puts adapters of
    this size into it. Raises UserError."""
    kind = model.config.model_type
    if kind not in ENDS:
        raise UserError(
            f"finetune.method: adapter does not know the layers of {kind!r}; take lora, or one of "
            f"{', '.join(ENDS)}"
        )
    from peft.utils import ModulesToSaveWrapper  # which has the base's own beside what is trained

    model.requires_grad_(False)
    for name in whole:
        wrapped = ModulesToSaveWrapper(model.get_submodule(name), "default")
        wrapped.set_adapter("default")
        model.set_submodule(name, wrapped)
    for name, layer in [*model.named_modules()]:
        if name.endswith(tuple(f".{end}" for end in ENDS[kind])):
            model.set_submodule(name, WithBottleneck(layer, size))


class WithBottleneck(nn.Module):
    def __init__(self, layer: nn.Module, size: int):
        super().__init__()
        width = layer.nf if hasattr(layer, "nf") else layer.out_features
        self.layer, self.down, self.up = layer, nn.Linear(width, size), nn.Linear(size, width)  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self._is_on = True

    @property
    def weight(self) -> Tensor:
        """The layer's own, at whose type T5 looks."""
        return self.layer.weight  # type: ignore[return-value]

    def enable_adapters(self, enabled: bool) -> None:
        self._is_on = enabled

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = self.layer(inputs)
        if not self._is_on:
            return hidden
        return hidden + self.up(functional.gelu(self.down(hidden)))
