"""`head: spans`: Efficient GlobalPointer (Su et al. 2022, arXiv 2208.03054).

The score of the span from token i to token j as label a is

    s_a(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d)  +  b_a(i)  +  e_a(j)

where the query q and the key k, shared by all labels, say whether this is an entity, and the begin
b and end e of each label, which; R turns by the position (Su et al. 2021, RoPE). All of them are
linear in the token's hidden state: outputs of an ordinary token classifier. A span is an entity
where its score is over 0.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from trainers.tasks.ner.windows import (
    NOWHERE,
    Decoded,
    ScoredSpan,
    Span,
    Window,
    Windows,
    belonging,
)
from trainers.tasks.task import Batch

SIZE = 64
"""Of a query and of a key."""


@dataclasses.dataclass(frozen=True)
class SpanHead:
    labels: Sequence[str]

    not_learned: ClassVar[str] = "entities longer than what windows share"

    @property
    def outputs(self) -> list[str]:
        vectors = [f"{name}_{number}" for name in ("query", "key") for number in range(SIZE)]
        edges = [f"{edge}-{label}" for edge in ("begin", "end") for label in self.labels]
        return [*vectors, *edges]

    def learnable(self, windows: Windows, spans: Sequence[Span]) -> list[Span]:
        """Those that some window holds whole."""
        parts = windows.windows
        return [span for span in spans if belonging(parts, span.first, span.last) is not None]

    def labelled(self, windows: Windows, spans: Sequence[Span]) -> list[list[Span]]:
        """The spans of each window, by their ends in it."""
        by_window: list[list[Span]] = [[] for _ in windows.windows]
        for span in spans:
            home = belonging(windows.windows, span.first, span.last)
            assert home is not None, "not learnable"
            by_window[home.window].append(Span(home.first, home.last, span.label))
        return by_window

    def longest(self, window: Window) -> list[Span]:
        return [Span(1, 1, 0)]

    def collate(self, labels: Sequence[list[Span]]) -> Batch:
        """`spans` (spans, 4): window, label, first and last token in it."""
        flat = [
            (number, one.label, one.first, one.last)
            for number, spans in enumerate(labels)
            for one in spans
        ]
        return {"spans": torch.tensor(flat, dtype=torch.long).reshape(-1, 4)}

    def targets(self, batch: Batch) -> float:
        """Each label of each window."""
        return len(batch["places"]) * len(self.labels)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The softmax of several labels (Su et al. 2022, arXiv 2208.02955), summed over windows and
        labels: with P the spans that are entities and N those that are not,

            log(1 + sum over N of exp(s)) + log(1 + sum over P of exp(-s))
        """
        steps = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
        scores = span_scores(logits, steps)
        belongs = spans_belong(batch["places"], *batch["bounds"].unbind(-1))[:, None]
        is_entity = torch.zeros_like(scores, dtype=torch.bool)
        is_entity[batch["spans"].unbind(-1)] = True
        others = scores.masked_fill(~belongs | is_entity, -math.inf)
        entities = (-scores).masked_fill(~is_entity, -math.inf)
        return (_softplus_of_sum(others.flatten(2)) + _softplus_of_sum(entities.flatten(2))).sum()

    def decode(self, logits: Sequence[Tensor], windows: Sequence[Window]) -> Decoded:
        """The spans of a text, from what the model says of each window, (tokens, outputs). The
        least certain decision is the one whose score is nearest to 0."""
        spans: list[ScoredSpan] = []
        certainties: list[float] = []
        for one, window in zip(logits, windows, strict=True):
            places = torch.tensor(window.places)
            read = (places != NOWHERE).nonzero()[:, 0]
            places = places[read]
            scores = span_scores(one[read], read)
            belongs = spans_belong(places, torch.tensor(window.low), torch.tensor(window.high))
            labels, firsts, lasts = ((scores > 0) & belongs).nonzero().unbind(-1)
            chances = scores[labels, firsts, lasts].sigmoid()
            columns = places[firsts], places[lasts], labels, chances
            spans += map(ScoredSpan, *(column.tolist() for column in columns))
            if belongs.any():
                certainties.append(float(scores[:, belongs].abs().min().sigmoid()))
        return Decoded(sorted(spans), min(certainties, default=None))


def span_scores(outputs: Tensor, positions: Tensor) -> Tensor:
    """Of every span by every label, (..., labels, tokens, tokens), from the outputs of each token,
    (..., tokens, outputs), at these positions, (..., tokens)."""
    labels = (outputs.shape[-1] - 2 * SIZE) // 2
    query, key, begin, end = outputs.split([SIZE, SIZE, labels, labels], -1)
    shared = turned(query, positions) @ turned(key, positions).mT / math.sqrt(SIZE)
    return shared[..., None, :, :] + begin.mT[..., :, None] + end.mT[..., None, :]


def turned(vectors: Tensor, positions: Tensor) -> Tensor:
    """Each pair of elements turned by the position times a frequency of its own."""
    frequencies = 10_000.0 ** (-torch.arange(0, SIZE, 2, device=vectors.device) / SIZE)
    angles = positions[..., None] * frequencies
    left, right = vectors[..., ::2], vectors[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def spans_belong(places: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(..., tokens, tokens): whether a span is read in this window."""
    first, last = places[..., :, None], places[..., None, :]
    together, low, high = first + last, low[..., None, None], high[..., None, None]
    are_tokens = (first != NOWHERE) & (last != NOWHERE)
    return are_tokens & (first <= last) & (low <= together) & (together < high)


def _softplus_of_sum(values: Tensor) -> Tensor:
    """log(1 + sum of exp(values)) over the last dimension."""
    return torch.cat([values, torch.zeros_like(values[..., :1])], -1).logsumexp(-1)
