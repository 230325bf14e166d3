"""Attention over packed documents on GPUs: torch's flash attention for rows of different lengths.

It takes the documents of a micro-batch one behind the other, with the places where they begin, and
computes nothing between two of them; memory is linear in the length. With a mask in place of the
places torch has no flash attention. CPUs and old GPUs attend by masks (build.py: packed_inputs).
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "raymill_packed"
MODEL_TYPES = ("llama", "qwen2", "qwen3")
"""Those whose layers pass on to attention what the model is given, and whose attention has no
dropout by default."""
WIDEST_HEAD = 256
"""Of the kernel."""


def prepare(model: "PreTrainedModel", device: torch.device, precision: str) -> None:
    """Has a model that is given the bounds of documents attend so, where the GPU can."""
    if not suits(model.config, device, precision):
        return
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def suits(config: Any, device: torch.device, precision: str) -> bool:
    """Whether a model of this config can: by flash attention, from NVIDIA's Ampere on."""
    if device.type != "cuda" or precision == "fp32" or config.model_type not in MODEL_TYPES:
        return False
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    has_windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    is_simple = not has_windows and not getattr(config, "attention_dropout", 0.0)
    fits = head <= WIDEST_HEAD and head % 8 == 0
    return is_simple and fits and torch.cuda.get_device_capability(device) >= (8, 0)


def is_used(model: "PreTrainedModel") -> bool:
    return model.config._attn_implementation == NAME


def bounds(starts: Tensor) -> dict[str, Any]:
    """What the model is given in place of a mask, from (batch, length), true where a document, or
    padding, begins; as it does in every row."""
    begins = starts.flatten().nonzero().flatten()
    end = begins.new_tensor([starts.numel()])
    return {"cu_seq_lens_q": torch.cat([begins, end]).int(), "max_length_q": starts.shape[1]}


def _mask(attention_mask: Tensor | None = None, **named: Any) -> Tensor | None:
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **named)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """As Transformers calls it: (batch, heads, length, width) of queries, and of keys and values
    with as many heads or a divisor of them; returns (batch, length, heads, width). Without bounds,
    by the mask."""
    if cu_seq_lens_q is None or max_length_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **named
        )
        return output, None
    groups = query.shape[1] // key.shape[1]  # torch repeats them itself from 2.12 on (enable_gqa)
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    batch, _, length, _ = query.shape
    query, key, value = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
    attended: Any = (
        varlen_attn(  # as of torch 2.11; 2.10 has is_causal, and neither of the last two
            query,
            key,
            value,
            cu_seq_q=cu_seq_lens_q,
            cu_seq_k=cu_seq_lens_q,
            max_q=max_length_q,
            max_k=max_length_q,
            scale=scaling,
            window_size=(-1, 0 if module.is_causal else -1),
        )
    )
    return attended.unflatten(0, (batch, length)), None
