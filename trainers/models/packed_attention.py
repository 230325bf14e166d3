"""Attention over packed sequences without a mask. The model is given the bounds of their pieces,
such as documents, and computes nothing between two pieces; a block-diagonal mask has it compute
all, and leave most of it out.

On GPUs it is torch's flash attention over bounds (varlen_attn), whose memory is linear in the
length of a sequence; torch has no flash attention with a mask. On CPUs it is a matrix product for
each block of queries of a piece. GPUs before Ampere, other models, and models that are compiled for
CPUs attend by the mask (build.py: packed_inputs).
"""

import functools
import itertools
from collections.abc import Callable, Iterator
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
"""Of the kernel of GPUs."""
BLOCK = 256
"""Queries of a piece that CPUs take at once, against its keys up to those of the last query."""


def prepare(
    model: "PreTrainedModel", device: torch.device, precision: str, is_compiled: bool = False
) -> None:
    """Has a model attend by the bounds of pieces where it is given some, and as before where not;
    leaves one alone that cannot."""
    # On CPUs the compiler would compile anew for every length of a piece.
    is_left_alone = is_compiled and device.type == "cpu"
    if is_left_alone or is_used(model) or not suits(model.config, device, precision):
        return
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    by_bounds = _by_pieces if device.type == "cpu" else _by_kernel
    by_mask = ALL_ATTENTION_FUNCTIONS[model.config._attn_implementation]
    ALL_ATTENTION_FUNCTIONS.register(NAME, functools.partial(attend, by_bounds, by_mask))
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def suits(config: Any, device: torch.device, precision: str) -> bool:
    """Whether a model of this config can attend by bounds: on CPUs in any precision, on NVIDIA's
    GPUs from Ampere on in 16 bits."""
    has_windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    is_simple = not has_windows and not getattr(config, "attention_dropout", 0.0)
    if config.model_type not in MODEL_TYPES or not is_simple:
        return False
    if device.type == "cpu":
        return True
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    fits = precision != "fp32" and head <= WIDEST_HEAD and head % 8 == 0
    return fits and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def is_used(model: "PreTrainedModel") -> bool:
    """Whether a model attends by bounds where it is given some."""
    return model.config._attn_implementation == NAME


def bounds(starts: Tensor) -> dict[str, Any]:
    """What the model is given in place of a mask. `starts` (batch, length) is true where a piece or
    padding begins, so at the beginning of every sequence."""
    begins = starts.flatten().nonzero().flatten()
    end = begins.new_full((1,), starts.numel())
    return {"cu_seq_lens_q": torch.cat([begins, end]).int(), "max_length_q": starts.shape[1]}


def _mask(attention_mask: Tensor | None = None, **named: Any) -> Tensor | None:
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **named)


def attend(
    by_bounds: Callable[..., Tensor],
    by_mask: Callable[..., Any],
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
    """Attention as Transformers calls it: queries (batch, heads, length, width), keys and values
    with as many heads or a divisor of them; returns (batch, length, heads, width)."""
    if cu_seq_lens_q is None or max_length_q is None:
        output, _ = by_mask(module, query, key, value, attention_mask, scaling=scaling, **named)
        return output, None
    assert module.is_causal
    batch, _, length, _ = query.shape
    query, key, value = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
    attended = by_bounds(query, key, value, cu_seq_lens_q, max_length_q, scaling)
    return attended.unflatten(0, (batch, length)), None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None
) -> Tensor:
    """Causal attention within each piece, of queries, keys and values (tokens, heads, width)."""
    groups = query.shape[1] // key.shape[1]  # torch repeats keys itself from 2.12 on (enable_gqa)
    attended: Any = varlen_attn(
        query,
        key.repeat_interleave(groups, 1),
        value.repeat_interleave(groups, 1),
        cu_seq_q=bounds,
        cu_seq_k=bounds,
        max_q=longest,
        max_k=longest,
        scale=scaling,
        window_size=(-1, 0),  # all before a token, nothing behind it
    )
    return attended  # type: ignore[no-any-return]


def _by_pieces(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None
) -> Tensor:
    """As `_by_kernel`."""
    heads = key.shape[1]
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    # The queries of heads that share keys are one matrix, and so is their product with these.
    query = query.unflatten(1, (heads, -1)).transpose(0, 1).contiguous()
    key, value = (one.transpose(0, 1).contiguous() for one in (key, value))
    attended = _Pieces.apply(query, key, value, bounds.tolist())  # type: ignore[no-untyped-call]
    return attended.transpose(0, 1).flatten(1, 2)  # type: ignore[no-any-return]


def _blocks(bounds: list[int]) -> Iterator[tuple[int, int, int]]:
    """Of every block of queries where its piece begins, where it begins, and where it ends."""
    for begin, end in itertools.pairwise(bounds):
        for start in range(begin, end, BLOCK):
            yield begin, start, min(start + BLOCK, end)


class _Pieces(torch.autograd.Function):
    """softmax(Q K' + mask) V (Vaswani et al. 2017, eq. 1). The softmax has as many weights as half
    the square of each piece. They are kept for the gradient in 16 bits; in fp32 they are computed
    again, as torch's own attention does, which keeps none there either.

    Queries (heads, tokens, groups, width), several of each token; keys and values (heads, tokens,
    width). The gradient is written by hand: autograd would give each block's keys a gradient as
    long as all of them.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bounds: list[int]) -> Tensor:
        output, kept = torch.empty_like(query), []
        for begin, start, stop in _blocks(bounds):
            weights = _weights(query, key, begin, start, stop)
            attended = weights @ value[:, begin:stop]
            output[:, start:stop] = attended.unflatten(1, (stop - start, -1))
            if weights.dtype != torch.float32:
                kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.bounds = bounds
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *kept = ctx.saved_tensors
        gradient = gradient.contiguous()
        by_query, by_key, by_value = map(torch.zeros_like, (query, key, value))
        for number, (begin, start, stop) in enumerate(_blocks(ctx.bounds)):
            weights = kept[number] if kept else _weights(query, key, begin, start, stop)
            keys, toward = slice(begin, stop), gradient[:, start:stop].flatten(1, 2)
            by_value[:, keys] += weights.transpose(1, 2) @ toward
            by_weights = toward @ value[:, keys].transpose(1, 2)
            by_scores = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
            by_query[:, start:stop] = (by_scores @ key[:, keys]).unflatten(1, (stop - start, -1))
            by_key[:, keys] += by_scores.transpose(1, 2) @ query[:, start:stop].flatten(1, 2)
        return by_query, by_key, by_value, None


def _weights(query: Tensor, key: Tensor, begin: int, start: int, stop: int) -> Tensor:
    """(heads, queries, keys): of a block of queries over the keys of its piece up to its end."""
    size = stop - start
    scores = query[:, start:stop].flatten(1, 2) @ key[:, begin:stop].transpose(1, 2)
    later = query.new_full((size, size), -torch.inf).triu(1)[:, None]
    scores.unflatten(1, (size, -1))[..., -size:] += later
    return torch.softmax(scores, -1)
