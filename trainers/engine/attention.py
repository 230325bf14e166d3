"""Attention for training on CPUs: softmax(Q K' / sqrt(d) + mask) V (Vaswani et al. 2017, eq. 1), a
block of queries at a time, each against the keys up to its end where attention is causal.

torch's own for CPUs takes two to ten times as long in bf16, forward and back. Here matrix products
do the work, and a block's scores stay in the processor's cache; but they are kept for the gradient.
In fp32 there is nothing to gain.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "raymill_blocks"
MODEL_TYPES = (
    "bert", "roberta", "xlm-roberta", "electra", "modernbert",
    "gpt2", "llama", "mistral", "qwen2", "qwen3",
)  # fmt: skip
"""Those whose attention takes a mask, and knows of positions by its inputs alone."""
BLOCK = 128
"""Queries."""


def prepare(model: "PreTrainedModel", device: str, precision: str) -> None:
    """Has a model attend in blocks where it can, and that is faster."""
    if device != "cpu" or precision != "bf16" or model.config.model_type not in MODEL_TYPES:
        return
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As Transformers calls it: (batch, heads, length, width) of queries, and of keys and values
    with as many heads or a divisor of them; returns (batch, length, heads, width). The mask is true
    where a query sees a key, or is added; without one a query sees all keys, or all before it."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length, is_causal = query.shape[2], bool(module.is_causal) and query.shape[2] == key.shape[2]
    if attention_mask is None and is_causal:
        attention_mask = query.new_ones(length, length, dtype=torch.bool).tril()[None, None]
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    outputs = []
    for start in range(0, length, BLOCK):
        queries = slice(start, start + BLOCK)
        keys = slice(0, queries.stop if is_causal else None)
        scores = query[:, :, queries] @ key[:, :, keys].transpose(-1, -2)
        if attention_mask is not None:
            mask = attention_mask[..., queries, keys]
            if mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            else:
                scores = scores + mask
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
        outputs.append(functional.dropout(weights, dropout, module.training) @ value[:, :, keys])
    return torch.cat(outputs, 2).transpose(1, 2), None
