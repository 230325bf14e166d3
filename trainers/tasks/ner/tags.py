"""Entities of a sentence as a tag for each word, and as spans of words. Pure.

One reader takes what all schemes have in common, a prefix and a label: IOB1 and IOB2 (`B-PER I-PER
O`), BIOES and BILOU (also `E` or `L` at the end, `S` or `U` for a single word), BMES (`M` inside).
Bare tags are labels by themselves, as parts of speech are, and equal neighbours are one span.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from trainers.corpora.reading.formats.rows import Problem

OUTSIDE = "O"
PREFIXED = re.compile(r"([BIMELSU])[-_](.+)", re.DOTALL)
INSIDE, LAST, SINGLE = "IM", "EL", "SU"


class WordSpan(NamedTuple):
    start: int
    end: int
    """The word behind the last one."""
    label: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """The spans of a sentence, and how many of them are not marked as their scheme has it."""

    spans: list[WordSpan]
    without_first: int = 0
    """Spans that begin with a tag for words inside or for a last one. IOB1 marks nearly all so."""
    without_last: int = 0
    """Spans that no last tag ends, among tags of a scheme that has such."""


def spans_of(tags: Sequence[str], form: Literal["prefixed", "bare"]) -> Reading | Problem:
    """Tags out of order are read as what they can mean: a span ends where the next tag does not go
    on with its label, and a new one begins there."""
    return _bare(tags) if form == "bare" else _prefixed(tags)


def have_prefixes(tags: Iterable[str]) -> bool:
    """Whether all tags that stand for something have a prefix, and one does."""
    named = [tag for tag in tags if tag != OUTSIDE]
    return bool(named) and all(map(PREFIXED.fullmatch, named))


def _bare(tags: Sequence[str]) -> Reading:
    spans, start = [], 0
    for tag, same in itertools.groupby(tags):
        end = start + sum(1 for _ in same)
        if tag != OUTSIDE:
            spans.append(WordSpan(start, end, tag))
        start = end
    return Reading(spans)


def _prefixed(tags: Sequence[str]) -> Reading | Problem:
    parsed: list[tuple[str, str]] = []
    for tag in tags:
        match = PREFIXED.fullmatch(tag)
        if match is None and tag != OUTSIDE:
            return Problem("unknown tag", _advice(tag))
        parsed.append((match[1], match[2]) if match else (OUTSIDE, ""))
    marks_last = any(prefix in LAST + SINGLE for prefix, _ in parsed)
    spans: list[WordSpan] = []
    without_first = without_last = 0
    start: int | None = None  # of the span that the last word is in
    label = ""
    for place, (prefix, of) in enumerate([*parsed, (OUTSIDE, "")]):
        goes_on = start is not None and prefix in INSIDE + LAST and of == label
        if start is not None and not goes_on:
            spans.append(WordSpan(start, place, label))
            without_last += marks_last
            start = None
        if prefix == OUTSIDE:
            continue
        if not goes_on:
            start, label = place, of
            without_first += prefix in INSIDE + LAST
        if prefix in LAST + SINGLE:
            assert start is not None
            spans.append(WordSpan(start, place + 1, label))
            start = None
    return Reading(spans, without_first, without_last)


def _advice(tag: str) -> str:
    return (
        f"{tag!r} is neither {OUTSIDE!r} nor a label behind B-, I-, E-, S-, M-, L- or U-; if tags "
        "are labels by themselves, set finetune.tags: bare"
    )
