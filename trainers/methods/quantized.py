"""A frozen base in 4 or 8 bits, by bitsandbytes (QLoRA, Dettmers et al. 2023; LLM.int8(), Dettmers
et al. 2022). Tested on CPUs, where it spares memory and no time; not tried on a GPU yet.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from cluster.errors import UserError
from trainers.methods.config import without_bitsandbytes
from trainers.methods.layers import rounded_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize(
    model: "PreTrainedModel", bits: Literal[4, 8], whole: Sequence[str], device: torch.device
) -> None:
    """Puts layers of rounded weights, on this device, in place of those that are rounded: NF4 with
    a second rounding of its scales, or int8 with outliers in 16 bits. Raises UserError."""
    refused = without_bitsandbytes(bits)
    if refused is not None:
        raise UserError(f"finetune.method.base_bits: {refused}")
    import bitsandbytes as bnb

    layers = rounded_layers(model, whole)
    if not layers:
        raise UserError(
            f"finetune.method.base_bits: {bits}: {model.config.model_type!r} has no layers that "
            "bitsandbytes rounds; leave it out"
        )
    for name, layer in layers.items():
        sizes = layer.in_features, layer.out_features, layer.bias is not None
        rounded: Any
        if bits == 4:
            rounded = bnb.nn.Linear4bit(
                *sizes, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4"
            )
            # Else some CPUs lay weights out anew at the first evaluation, behind which they cannot
            # be learned with, and need widths of 64.
            rounded.support_avx512bf16_for_cpu = False
            rounded.weight = bnb.nn.Params4bit(
                layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
            )
        else:
            rounded = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0)
            rounded.weight = bnb.nn.Int8Params(
                layer.weight.data, requires_grad=False, has_fp16_weights=False
            )
        rounded.bias = layer.bias
        model.set_submodule(name, rounded.to(device))  # which rounds
    setattr(model, f"is_loaded_in_{bits}bit", True)  # by which PEFT chooses its layers
