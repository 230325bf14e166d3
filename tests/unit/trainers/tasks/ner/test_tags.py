"""Tags and spans of words are the same thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.entities import SCHEMES, tags_of
from trainers.corpora.reading.formats.rows import Problem
from trainers.tasks.ner.tags import OUTSIDE, Reading, WordSpan, spans_of


def read(tags: str) -> Reading:
    found = spans_of(tags.split(), "prefixed")
    assert isinstance(found, Reading)
    return found


@st.composite
def sentences(draw: st.DrawFn) -> tuple[int, list[WordSpan]]:
    """A number of words, and spans of them that do not overlap."""
    lengths = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=6))
    labels = st.sampled_from(["PER", "geo-loc", "人名", "a_b", "O", "B-X"])
    spans, place = [], 0
    for gap, length in lengths:
        spans.append(WordSpan(place + gap, place + gap + length, draw(labels)))
        place += gap + length
    return place + draw(st.integers(0, 2)), spans


@pytest.mark.parametrize("scheme", SCHEMES)
@given(sentences())
def test_spans_to_tags_to_spans_is_the_identity(
    scheme: str, sentence: tuple[int, list[WordSpan]]
) -> None:
    words, spans = sentence
    tags = tags_of(spans, words, scheme)
    assert len(tags) == words
    found = spans_of(tags, "prefixed")
    assert found == Reading(spans)
    assert tags_of(found.spans, words, scheme) == tags


@given(st.lists(st.sampled_from(["O", *(f"{p}-{x}" for p in "BIMELSU" for x in "XY")])))
def test_tags_in_any_order_have_spans(tags: list[str]) -> None:
    found = spans_of(tags, "prefixed")
    assert isinstance(found, Reading)
    covered = [place for start, end, _ in found.spans for place in range(start, end)]
    assert covered == [place for place, tag in enumerate(tags) if tag != OUTSIDE]
    for start, end, label in found.spans:
        assert {tag[2:] for tag in tags[start:end]} == {label}
    again = spans_of(tags_of(found.spans, len(tags), "BIOES"), "prefixed")
    assert again == Reading(found.spans)


@pytest.mark.parametrize(
    ("tags", "spans", "without_first", "without_last"),
    [
        ("O I-X I-X O", [(1, 3, "X")], 1, 0),
        ("I-X B-X I-Y", [(0, 1, "X"), (1, 2, "X"), (2, 3, "Y")], 2, 0),
        ("B-X I-Y O", [(0, 1, "X"), (1, 2, "Y")], 1, 0),
        ("B-X I-X O S-Y", [(0, 2, "X"), (3, 4, "Y")], 0, 1),
        ("B-X E-Y", [(0, 1, "X"), (1, 2, "Y")], 1, 1),
        ("E-X E-X", [(0, 1, "X"), (1, 2, "X")], 2, 0),
        ("B-X L-X I-X", [(0, 2, "X"), (2, 3, "X")], 1, 1),
        ("B_X I_X", [(0, 2, "X")], 0, 0),
        ("", [], 0, 0),
    ],
)
def test_tags_out_of_order_are_read_and_counted(
    tags: str, spans: list[tuple[int, int, str]], without_first: int, without_last: int
) -> None:
    assert read(tags) == Reading([WordSpan(*span) for span in spans], without_first, without_last)


@pytest.mark.parametrize("tag", ["X-PER", "PER", "B", "B-", "", "o", "b-per", "nr"])
def test_unknown_tags_are_a_problem(tag: str) -> None:
    found = spans_of(["O", tag], "prefixed")
    assert isinstance(found, Problem)
    assert found.reason == "unknown tag"
    assert found.detail.startswith(f"{tag!r} is neither 'O' nor a label behind B-, I-, ")


def test_bare_tags_are_labels_and_equal_neighbours_one_span() -> None:
    assert spans_of(["nr", "nr", "v", "O", "B-X", "O", "nr"], "bare") == Reading(
        [WordSpan(0, 2, "nr"), WordSpan(2, 3, "v"), WordSpan(4, 5, "B-X"), WordSpan(6, 7, "nr")]
    )
