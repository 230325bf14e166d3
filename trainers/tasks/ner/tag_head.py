"""`head: tags`: a BIO tag of every token (Ramshaw & Marcus 1995).

`B-person` begins a person, `I-person` goes on with it, `O` is outside. An answer is the most
probable sequence of tags in which every I follows a B or I of its label.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trainers.tasks.encoding import pad
from trainers.tasks.ner.windows import NOWHERE, Decoded, ScoredSpan, Span, Window, Windows
from trainers.tasks.task import IGNORED, Batch

OUTSIDE = 0
"""The number of the tag O; label n has B as 2 n + 1 and I as 2 n + 2."""


@dataclasses.dataclass(frozen=True)
class TagHead:
    labels: Sequence[str]

    not_learned: ClassVar[str] = "entities inside another or across its edge"

    @property
    def outputs(self) -> list[str]:
        return ["O", *[f"{kind}-{label}" for label in self.labels for kind in "BI"]]

    def learnable(self, windows: Windows, spans: Sequence[Span]) -> list[Span]:
        """The outermost: of entities that share a token the longest stays, of equal ones the
        first."""
        kept: list[Span] = []
        for span in sorted(spans, key=lambda span: (span.first - span.last, span)):
            if all(span.last < other.first or other.last < span.first for other in kept):
                kept.append(span)
        return kept

    def labelled(self, windows: Windows, spans: Sequence[Span]) -> list[list[int]]:
        """The tags of each window: of the tokens that belong to it."""
        tags = [OUTSIDE] * len(windows.offsets)
        for first, last, label in spans:
            tags[first : last + 1] = [2 * label + 1, *[2 * label + 2] * (last - first)]
        return [
            [tags[place] if belongs else IGNORED for place, belongs in _belonging(window)]
            for window in windows.windows
        ]

    def longest(self, window: Window) -> list[int]:
        """Labels of a window for a plan."""
        return [OUTSIDE] * len(window.places)

    def collate(self, labels: Sequence[list[int]]) -> Batch:
        """Of windows."""
        return {"labels": pad(labels, IGNORED)["input_ids"]}

    def targets(self, batch: Batch) -> float:
        """Tokens with a tag."""
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy, summed over tokens."""
        return functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def decode(self, logits: Sequence[Tensor], windows: Sequence[Window]) -> Decoded:
        """The spans of a text, from what the model says of each window, (tokens, tags). A span's
        score is the probability of its least certain tag, and the certainty of a text that of all
        its tags, O among them."""
        masks = [[belongs for _, belongs in _belonging(window)] for window in windows]
        read = [
            one[: len(mask)][torch.tensor(mask, dtype=torch.bool)]
            for one, mask in zip(logits, masks, strict=True)
        ]
        chances = torch.cat(read).log_softmax(-1).numpy()
        numbers = [place for window in windows for place, belongs in _belonging(window) if belongs]
        tags = best_tags(chances)
        certain = np.exp(chances[np.arange(len(tags)), tags])
        spans = [
            ScoredSpan(numbers[first], numbers[last], label, float(certain[first : last + 1].min()))
            for first, last, label in decoded_spans(tags)
        ]
        return Decoded(spans, float(certain.min()) if tags else None)


def _belonging(window: Window) -> list[tuple[int, bool]]:
    """Of each position its place, and whether the token belongs to this window."""
    return [
        (place, place != NOWHERE and window.low <= 2 * place < window.high)
        for place in window.places
    ]


def decoded_spans(tags: Sequence[int]) -> list[Span]:
    """What a possible sequence of tags says."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        if tag % 2 == 1:
            spans.append(Span(place, place, tag // 2))
        elif tag != OUTSIDE:
            spans[-1] = spans[-1]._replace(last=place)
    return spans


def best_tags(chances: npt.NDArray[Any]) -> list[int]:
    """The most probable sequence that is possible, by `chances` (tokens, tags), logarithms of
    probabilities (Viterbi 1967, where a step costs nothing or is forbidden)."""
    if not len(chances):
        return []
    likeliest = chances.argmax(1)
    follows = _follows(chances.shape[1])
    if follows[OUTSIDE, likeliest[0]] and follows[likeliest[:-1], likeliest[1:]].all():
        return likeliest.tolist()
    forbidden = np.where(follows, 0.0, -np.inf)
    total = chances[0] + forbidden[OUTSIDE]
    came_from = []
    for chance in chances[1:]:
        ways = total[:, None] + forbidden
        came_from.append(ways.argmax(0))
        total = ways.max(0) + chance
    tags = [int(total.argmax())]
    for back in reversed(came_from):
        tags.append(int(back[tags[-1]]))
    return tags[::-1]


def _follows(tags: int) -> npt.NDArray[np.bool_]:
    """(tags, tags): whether the second may follow the first. What may follow O may come first."""
    number = np.arange(tags)
    is_inside = (number % 2 == 0) & (number != OUTSIDE)
    is_same_label = (number[:, None] - 1) // 2 == (number[None, :] - 1) // 2
    return ~is_inside[None, :] | (is_same_label & (number[:, None] != OUTSIDE))
