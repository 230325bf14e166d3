"""What is wrong with the entities that a model found in a text. Pure.

Each found entity has at most one true one beside it: an equal one; else one of the same characters;
else, from left to right, the first that shares characters with it and stands beside no other. So
there are the kinds of mistakes of SemEval-2013, counted as nervaluate does.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trainers.corpora.report.page import Marked, Piece

RIGHT, MISSED, EXTRA = "right", "missed", "extra"
BOUNDARY, LABEL, BOTH = "wrong boundary", "wrong label", "both wrong"
KINDS = (RIGHT, BOUNDARY, LABEL, BOTH, MISSED, EXTRA)
AROUND = 60
"""Characters that are shown before and behind a mistake."""
MOST_CHARACTERS = 1000
"""Of a text that are shown."""
GAP = Piece(" … ")
COLOURS = {(True, False): "kept", (False, True): "dropped", (True, True): "near"}
"""Of a character by whether it is in an entity that is true, and in one that was found, of those
that are not right: as `MARKS` has them."""

Entity = Mapping[str, Any]


class Pair(NamedTuple):
    """A true entity and a predicted one, or one of them that stands alone."""

    true: Entity | None
    predicted: Entity | None

    @property
    def kind(self) -> str:
        if self.true is None or self.predicted is None:
            return MISSED if self.true else EXTRA
        if self.true["label"] == self.predicted["label"]:
            return RIGHT if _same_place(self.true, self.predicted) else BOUNDARY
        return LABEL if _same_place(self.true, self.predicted) else BOTH

    @property
    def label(self) -> str:
        """The true one, where there is one."""
        label: str = (self.true or self.predicted or {})["label"]
        return label

    @property
    def start(self) -> int:
        return min(one["start"] for one in self if one)

    @property
    def end(self) -> int:
        return max(one["end"] for one in self if one)

    @property
    def note(self) -> str:
        """For people who see where it stands: what is wrong, and how sure the model was."""
        score = self.predicted and self.predicted.get("score")
        sure = "" if score is None else f" ({score:.2f})"
        if self.predicted and self.label != self.predicted["label"]:
            boundary = f", {BOUNDARY}" if self.kind == BOTH else ""
            return f"{self.predicted['label']}, not {self.label}{boundary}{sure}"
        return f"{self.label} {self.kind}{sure}"


def pairs(record: Mapping[str, Any]) -> list[Pair]:
    """Every entity of a record once, from left to right."""
    true, predicted = (_once_each(record[name]) for name in ("gold", "prediction"))
    paired = []
    for alike in (_equal, _same_place, _overlap):
        for one in [*predicted]:
            other = next((each for each in true if alike(each, one)), None)
            if other is not None:
                true.remove(other)
                predicted.remove(one)
                paired.append(Pair(other, one))
    paired += [Pair(one, None) for one in true] + [Pair(None, one) for one in predicted]
    return sorted(paired, key=lambda pair: (pair.start, pair.end))


def _once_each(entities: Sequence[Entity]) -> list[Entity]:
    by_place = {(one["start"], one["end"], one["label"]): one for one in entities}
    return [by_place[place] for place in sorted(by_place)]


def _equal(one: Entity, other: Entity) -> bool:
    return _same_place(one, other) and bool(one["label"] == other["label"])


def _same_place(one: Entity, other: Entity) -> bool:
    return (one["start"], one["end"]) == (other["start"], other["end"])


def _overlap(one: Entity, other: Entity) -> bool:
    return bool(max(one["start"], other["start"]) < min(one["end"], other["end"]))


def marked(record: Mapping[str, Any]) -> Marked:
    """A record's text around its mistakes, with its entities marked and its mistakes told."""
    text, every = record["text"], pairs(record)
    wrong = [pair for pair in every if pair.kind != RIGHT]
    true, predicted = (_characters(pair[side] for pair in wrong) for side in (0, 1))
    right = _characters(pair.true for pair in every if pair.kind == RIGHT)
    windows = [(max(0, pair.start - AROUND), min(len(text), pair.end + AROUND)) for pair in wrong]
    edges = {place for window in windows for place in window}
    edges |= {
        place for pair in every for one in pair if one for place in (one["start"], one["end"])
    }
    pieces: list[Piece] = []
    shown = hidden = 0
    for start, end in itertools.pairwise(sorted({0, *edges, len(text)})):
        notes = [pair.note for pair in wrong if pair.end == end]
        if shown < MOST_CHARACTERS and any(low <= start < high for low, high in windows):
            colour = "before" if start in right else ""
            colour = COLOURS.get((start in true, start in predicted), colour)
            part = text[start:end][: MOST_CHARACTERS - shown]
            pieces.append(Piece(part, colour, "; ".join(notes)))
            shown += len(part)
            continue
        hidden += len(notes)
        if pieces[-1:] != [GAP]:
            pieces.append(GAP)
    return Marked([*pieces, *([Piece("", "", f"{hidden:,} more mistakes")] if hidden else [])])


def _characters(entities: Iterable[Entity | None]) -> set[int]:
    """The places of all characters that are in any of them."""
    return {place for one in entities if one for place in range(one["start"], one["end"])}
