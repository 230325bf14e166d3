"""A text as a model reads it: one sequence of tokens, or several that overlap.

A span of tokens, from `first` to `last`, belongs to the window in which it has most context: the
one whose middle is nearest to its own. Between a window that ends with token e and the next, which
begins with token b, that is decided by whether first + last < b + e. A token is a span of one. So
each is learned once and read once, by training, evaluation and the endpoint alike.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from trainers.tasks.encoding import (
    Beginning,
    Encoded,
    Tokenized,
    beginning_of_clean,
    tokenize,
)

NOWHERE = -1
"""The place of what no entity can begin or end with: special tokens, white space, and further
tokens of a character that has several, such as its bytes."""


class Span(NamedTuple):
    """Tokens of a text, both ends included, with the number of their label."""

    first: int
    last: int
    label: int


class ScoredSpan(NamedTuple):
    """A span that a model found, with how certain it is, from 0 to 1."""

    first: int
    last: int
    label: int
    score: float


class Decoded(NamedTuple):
    """What a model says of a text."""

    spans: list[ScoredSpan]
    certainty: float | None
    """The probability of its least certain decision, that there is an entity or that there is none;
    None of a text about which nothing is decided."""


class Window(NamedTuple):
    """One sequence."""

    input_ids: list[int]
    """With special tokens."""
    places: list[int]
    """Of each of these, the token's number in the text, or NOWHERE."""
    low: int
    high: int
    """A span belongs to this window where low <= first + last < high."""


class Visible(NamedTuple):
    """The tokens that are not NOWHERE, in order. Their characters do not overlap."""

    numbers: list[int]
    starts: list[int]
    ends: list[int]

    @classmethod
    def of(cls, offsets: Sequence[tuple[int, int]]) -> "Visible":
        visible = cls([], [], [])
        for number, (start, end) in enumerate(offsets):
            if start < end and start >= visible.end:
                visible.numbers.append(number)
                visible.starts.append(start)
                visible.ends.append(end)
        return visible

    @property
    def end(self) -> int:
        return self.ends[-1] if self.ends else 0


@dataclasses.dataclass(frozen=True)
class Windows(Encoded):
    """A text as sequences, with where its tokens stand."""

    text: str
    """The clean text, or its beginning."""
    windows: list[Window]
    offsets: list[tuple[int, int]]
    """Of each token its characters in the clean text, without white space around them."""
    visible: Visible

    def located(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last token of these characters, or None where they have none."""
        first = bisect.bisect_right(self.visible.ends, start)
        last = bisect.bisect_left(self.visible.starts, end) - 1
        numbers = self.visible.numbers
        return (numbers[first], numbers[last]) if first <= last else None

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Where these tokens begin and end."""
        return self.offsets[first][0], self.offsets[last][1]


def read_windows(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int,
    stride: int,
    max_windows: int,
    beginning_of: Beginning = beginning_of_clean,
) -> list[Windows]:
    """Each text in so many windows at most, of `max_length` tokens that share `stride`."""
    room = max_length - tokenizer.num_special_tokens_to_add()
    most = max_length + (max_windows - 1) * (room - stride)
    tokenized = tokenize(tokenizer, texts, most, beginning_of)
    return [windows_of(one, max_length, stride) for one in tokenized]


def windows_of(tokenized: Tokenized, max_length: int, stride: int) -> Windows:
    """All that was read of a text; the last window shares as many tokens as it can."""
    ids, special = tokenized.encoding.ids, tokenized.encoding.special_tokens_mask
    begin = special.index(0) if 0 in special else len(ids)
    end = len(ids) - special[::-1].index(0) if 0 in special else len(ids)
    before, tokens, after = ids[:begin], ids[begin:end], ids[end:]
    offsets = [_trimmed(tokenized.text, *one) for one in tokenized.encoding.offsets[begin:end]]
    visible = Visible.of(offsets)
    places = [NOWHERE] * len(tokens)
    for number in visible.numbers:
        places[number] = number
    room = max_length - len(before) - len(after)
    begins = _begins(len(tokens), room, stride)
    sums = [at + room - 1 + following for at, following in itertools.pairwise(begins)]
    windows = [
        Window(
            [*before, *tokens[at : at + room], *after],
            [*[NOWHERE] * len(before), *places[at : at + room], *[NOWHERE] * len(after)],
            low,
            high,
        )
        for at, low, high in zip(begins, [0, *sums], [*sums, 2 * len(tokens)], strict=True)
    ]
    return Windows(ids, tokenized.length, tokenized.text, windows, offsets, visible)


def _begins(tokens: int, room: int, stride: int) -> list[int]:
    """The first token of each window."""
    if tokens <= room:
        return [0]
    begins = [*range(0, tokens - stride, room - stride)]
    return [*begins[:-1], tokens - room]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space, which some tokenizers count to a word."""
    piece = text[start:end].rstrip()
    return start + len(piece) - len(piece.lstrip()), start + len(piece)


class Home(NamedTuple):
    """Where a span is learned and read: its window, and its ends in that."""

    window: int
    first: int
    last: int


def belonging(windows: Sequence[Window], first: int, last: int) -> Home | None:
    """None for a span that no window holds whole."""
    number = bisect.bisect_right([window.high for window in windows], first + last)
    places = windows[number].places
    if first not in places or last not in places:
        return None
    return Home(number, places.index(first), places.index(last))
