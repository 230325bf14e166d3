"""Kinds of mistakes against nervaluate's, and texts in which they are marked."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from tests.unit.trainers.tasks.ner.spans import LABELS, entities
from trainers.corpora.report.page import MARKS
from trainers.tasks.ner.figures import figures, tally
from trainers.tasks.ner.mistakes import (
    AROUND,
    BOTH,
    BOUNDARY,
    EXTRA,
    GAP,
    LABEL,
    MISSED,
    MOST_CHARACTERS,
    RIGHT,
    marked,
    pairs,
)

TEXT = "北京的王芳去上海找李强"


def entity(start: int, end: int, label: str, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, **more}


@given(st.lists(st.tuples(entities(), entities()), min_size=1, max_size=8))
def test_kinds_are_those_of_nervaluate(rows: list[Any]) -> None:
    kinds = figures([{"gold": gold, "prediction": found} for gold, found in rows])["mistakes"]
    gold, found = (
        [[{**one, "end": one["end"] - 1} for one in row] for row in side]  # its ends are inclusive
        for side in zip(*rows, strict=True)
    )
    judged = Evaluator(gold, found, tags=LABELS, loader="dict").evaluate()["overall"]
    strict = judged["strict"]
    assert kinds[RIGHT] == strict.correct
    assert kinds[BOUNDARY] + kinds[LABEL] + kinds[BOTH] == strict.incorrect
    assert (kinds[MISSED], kinds[EXTRA]) == (strict.missed, strict.spurious)
    assert kinds[RIGHT] + kinds[LABEL] == judged["exact"].correct
    assert kinds[BOUNDARY] + kinds[BOTH] == judged["partial"].partial


spans = st.lists(
    st.builds(
        lambda start, length, label: entity(start, start + length, label),
        st.integers(0, 9), st.integers(1, 4), st.sampled_from(LABELS),
    ),
    max_size=6,
)  # fmt: skip


@given(spans, spans)
def test_every_entity_is_in_one_pair_though_they_nest_and_overlap(
    gold: list[Any], found: list[Any]
) -> None:
    made = pairs({"gold": gold, "prediction": found})
    for side, given_ in ((0, gold), (1, found)):
        kept = [tuple(pair[side].values()) for pair in made if pair[side]]
        assert sorted(kept) == sorted({tuple(one.values()) for one in given_})
    equal = {tuple(one.values()) for one in gold} & {tuple(one.values()) for one in found}
    assert sum(pair.kind == RIGHT for pair in made) == len(equal)
    record = {"gold": gold, "prediction": found}
    assert tally([record]).severity.tolist() == [sum(pair.kind != RIGHT for pair in made)]


@given(spans, spans)
def test_a_marked_text_is_the_text_and_tells_every_mistake(
    gold: list[Any], found: list[Any]
) -> None:
    record = {"gold": gold, "prediction": found, "text": "".join(map(chr, range(97, 110)))}
    wrong = [pair for pair in pairs(record) if pair.kind != RIGHT]
    pieces = marked(record).pieces
    if wrong:
        assert "".join(piece.text for piece in pieces) == record["text"]
    notes = [note for piece in pieces for note in piece.note.split("; ") if note]
    assert sorted(notes) == sorted(pair.note for pair in wrong)
    assert {piece.colour for piece in pieces} <= {*MARKS, ""}


def test_an_example_by_hand() -> None:
    record = {
        "text": TEXT,
        "gold": [entity(0, 2, "place"), entity(3, 5, "person"), entity(6, 8, "place")],
        "prediction": [
            entity(0, 2, "place", score=0.99),
            entity(3, 4, "person", score=0.6),
            entity(6, 8, "person", score=0.95),
            entity(9, 11, "person", score=0.8),
        ],
    }
    assert [pair.kind for pair in pairs(record)] == [RIGHT, BOUNDARY, LABEL, EXTRA]
    assert [(piece.text, piece.colour, piece.note) for piece in marked(record).pieces] == [
        ("北京", "before", ""),
        ("的", "", ""),
        ("王", "near", ""),
        ("芳", "kept", "person wrong boundary (0.60)"),
        ("去", "", ""),
        ("上海", "near", "person, not place (0.95)"),
        ("找", "", ""),
        ("李强", "dropped", "person extra (0.80)"),
    ]
    assert tally([record]).severity.tolist() == [3.95]


def test_only_what_is_around_mistakes_is_shown_and_what_is_not_is_counted() -> None:
    lonely = {"text": "x" * 5000, "gold": [entity(2000, 2003, "place")], "prediction": []}
    pieces = marked(lonely).pieces
    assert [pieces[0], pieces[-1]] == [GAP, GAP]
    assert sum(len(piece.text) for piece in pieces[1:-1]) == 2 * AROUND + 3
    many = {**lonely, "gold": [entity(n, n + 1, "place") for n in range(0, 5000, 10)]}
    pieces = marked(many).pieces
    assert sum(len(piece.text) for piece in pieces if piece != GAP) == MOST_CHARACTERS
    told = sum(piece.note == "place missed" for piece in pieces)
    assert pieces[-1].note == f"{500 - told} more mistakes"


def test_the_worst_have_most_mistakes_and_of_as_many_the_surest() -> None:
    gold, sure, unsure = (
        entity(0, 2, "place"),
        *(entity(3, 5, "place", score=s) for s in (0.9, 0.4)),
    )
    records = [
        {"gold": [gold], "prediction": []},
        {"gold": [], "prediction": [unsure]},
        {"gold": [gold], "prediction": [sure]},
        {"gold": [], "prediction": [sure]},
        {"gold": [], "prediction": []},
    ]
    severity = tally(records).severity.tolist()
    assert severity == [1.0, 1.4, 2.9, 1.9, 0.0]


def test_confusion_is_by_true_label_and_counts_what_stands_alone() -> None:
    record = {
        "gold": [entity(0, 2, "a"), entity(3, 5, "b"), entity(6, 8, "a")],
        "prediction": [entity(0, 2, "b"), entity(3, 6, "b"), entity(9, 10, "a")],
    }
    found = figures([record])
    assert found["confusion"] == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert found["mistakes_per_label"]["a"] == {
        RIGHT: 0, BOUNDARY: 0, LABEL: 1, BOTH: 0, MISSED: 1, EXTRA: 1
    }  # fmt: skip
