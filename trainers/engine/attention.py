"""Attention for training on CPUs: softmax(Q K' / sqrt(d) + mask) V (Vaswani et al. 2017, eq. 1), a
block of queries at a time, each against the keys up to its end where attention is causal.

torch's own for CPUs takes two to ten times as long in bf16, forward and back, and with dropout in
fp32 too. Here matrix products do the work, and a block's scores stay in the processor's cache; but
they are kept for the gradient. In fp32 without dropout, there is nothing to gain.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trainers.engine.dropout import dropout as dropped

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


def prepare(model: "PreTrainedModel", device: str) -> None:
    """Has a model attend in blocks where it can, and that is faster."""
    if device != "cpu" or model.config.model_type not in MODEL_TYPES:
        return
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
    **further: Any,
) -> tuple[Tensor, None]:
    """As Transformers calls it: (batch, heads, length, width) of queries, and of keys and values
    with as many heads or a divisor of them; returns (batch, length, heads, width). The mask is true
    where a query sees a key, or is added; without one a query sees all keys, or all before it."""
    if query.dtype == torch.float32 and not dropout:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, dropout, scaling, **further
        )
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length, is_causal = query.shape[2], bool(module.is_causal) and query.shape[2] == key.shape[2]
    if attention_mask is None and is_causal:
        attention_mask = query.new_ones(length, length, dtype=torch.bool).tril()[None, None]
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        least = torch.finfo(query.dtype).min
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill(
            ~attention_mask, least
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    outputs = []
    for start in range(0, length, BLOCK):
        queries = slice(start, start + BLOCK)
        keys = slice(0, queries.stop if is_causal else None)
        scores = query[:, :, queries] @ key[:, :, keys].transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask[..., queries, keys]
        weights = torch.softmax(scores, -1)
        outputs.append(dropped(weights, dropout, module.training) @ value[:, :, keys])
    return torch.cat(outputs, 2).transpose(1, 2), None
