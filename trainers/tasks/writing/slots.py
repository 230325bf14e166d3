"""Keys and values of sequences that join and leave a batch between the steps of a model.

Each layer holds one tensor, [rows, heads, tokens, width], of which the sequences that are being
written have the first rows. So a step reads a view, and nothing is copied but the last row into
the place of one that has left.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

TOKENS = 256
"""By so many, or by half of what they hold, tensors grow."""
KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
ATTENTION = "raymill_slots"


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' `sdpa`, which with a mask copies keys and values for each of the heads that
    share them: here such heads are further queries, [rows, key heads, heads x tokens, width]."""
    if attention_mask is None:  # of a forward that is not of the slots
        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling, **kwargs)
    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    queries = query.reshape(rows, key.shape[1], groups * tokens, width)
    mask = attention_mask.repeat(1, 1, groups, 1) if groups > 1 else attention_mask
    read = functional.scaled_dot_product_attention(
        queries, key, value, attn_mask=mask, scale=scaling
    )
    return read.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, grouped_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


def hold_in_slots(model: Any) -> None:
    """Has a model read what it holds in slots. Raises ValueError for one that cannot."""
    config = model.config.get_text_config()
    refused = why_not(config)
    if refused is None and config._attn_implementation not in ("sdpa", ATTENTION):
        refused = f"a model whose attention is {config._attn_implementation}"
    if refused is not None:
        raise ValueError(refused)
    model.set_attn_implementation(ATTENTION)


def why_not(config: Any) -> str | None:
    """Why the sequences of a model cannot be held so, or None. Pure."""
    if config.is_encoder_decoder:
        return "an encoder-decoder"
    kinds = {*(getattr(config, "layer_types", None) or [])} - KNOWN_LAYERS
    if kinds:
        return f"a model with layers of {', '.join(sorted(kinds))}"
    return None


class Slots(Cache):
    """The cache that a forward of a model is given, for the rows and tokens that are set before."""

    def __init__(self, layers: int, rows: int):
        self._own = [_Layer(self) for _ in range(layers)]
        super().__init__(layers=[*self._own])
        self.most_rows = rows
        self._first = 0
        self._positions = self._numbers = torch.empty(0, 0)
        self._longest = 0

    def read(self, first: int, positions: Tensor) -> None:
        """The next forward is of the rows from this one, each with tokens at these positions,
        [rows, tokens]."""
        self._first, self._positions = first, positions
        self._numbers = torch.arange(len(positions), device=positions.device)[:, None]
        self._longest = int(positions.max()) + 1

    def masks(self, config: Any) -> Tensor | Mapping[str, Tensor] | None:
        """Which tokens each token of the next forward sees, [rows, 1, tokens, seen]: those of its
        row up to itself; of a model with several kinds of layers, by kind. None where a row
        begins: the model knows that without."""
        if self._positions.shape == (1, self._longest):
            return None
        seen = torch.arange(self._longest, device=self._positions.device)
        at = self._positions[:, None, :, None]
        all_before = seen <= at
        window = getattr(config, "sliding_window", None)
        kinds = {*(getattr(config, "layer_types", None) or [])}
        near = all_before if window is None else all_before & (seen > at - window)
        if len(kinds) > 1:
            return {"full_attention": all_before, "sliding_attention": near}
        is_sliding = kinds == {"sliding_attention"} or not kinds
        return near if is_sliding else all_before

    def leave(self, row: int, last: int) -> None:
        """A row goes; the last one takes its place."""
        for layer in self._own:
            layer.move(last, row)


class _Layer(CacheLayerMixin):
    def __init__(self, slots: Slots):
        super().__init__()
        self._slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = map(self._empty, (key_states, value_states))
        self.is_initialized = True

    def _empty(self, states: Tensor, tokens: int = TOKENS) -> Tensor:
        _, heads, _, width = states.shape
        return states.new_zeros(self._slots.most_rows, heads, tokens, width)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slots = self._slots
        assert self.keys is not None
        assert self.values is not None
        if slots._longest > self.keys.shape[2]:
            self.keys, self.values = map(self._grown, (self.keys, self.values))
        rows = slice(slots._first, slots._first + len(key_states))
        found = []
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            of_rows = held[rows]
            of_rows[slots._numbers, :, slots._positions] = new.transpose(1, 2)
            found.append(of_rows[:, :, : slots._longest])
        return found[0], found[1]

    def _grown(self, held: Tensor) -> Tensor:
        had = held.shape[2]
        larger = self._empty(held, max(self._slots._longest, had + max(TOKENS, had // 2)))
        larger[:, :, :had] = held
        return larger

    def move(self, source: int, target: int) -> None:
        for held in (self.keys, self.values):
            if held is not None and source != target:
                held[target] = held[source]

    def get_seq_length(self) -> int:
        """Before the forward."""
        return self._slots._longest - self._slots._positions.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slots._longest, 0

    def get_max_length(self) -> int:
        return -1
