"""The beginning of a cleaned text is what cleaning the whole begins with, and costs no more than
it must. Cleaning a text again changes nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.troublesome import SETTINGS, TEXTS, TROUBLE
from trainers.corpora.cleaning import beginning as module
from trainers.corpora.cleaning.beginning import MARGIN, beginning
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.privacy import KINDS
from trainers.corpora.cleaning.rules import LONGEST_MENDED, MOST_MARKS, normalize


@pytest.mark.parametrize("clean", SETTINGS, ids=["default", "masked", "everything"])
@settings(max_examples=40)
@given(TEXTS)
def test_what_is_clean_stays_as_it_is(clean: Clean, text: str) -> None:
    once = normalize(text, clean)
    assert normalize(once, clean) == once


@pytest.mark.parametrize("clean", SETTINGS, ids=["default", "masked", "everything"])
@settings(max_examples=40)
@given(st.lists(TEXTS))
def test_each_line_is_cleaned_alone(clean: Clean, lines: list[str]) -> None:
    alone = filter(None, (normalize(line, clean) for line in "\n".join(lines).split("\n")))
    assert normalize("\n".join(lines), clean) == "\n".join(alone)


@pytest.mark.parametrize("clean", SETTINGS, ids=["default", "masked", "everything"])
@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(TROUBLE), st.integers(1, 400)), max_size=60), st.data())
def test_a_beginning_is_that_of_the_whole(clean: Clean, pieces: list, data: st.DataObject) -> None:
    text = "".join(piece * min(count, 3000 // len(piece) + 1) for piece, count in pieces)
    characters = data.draw(st.integers(1, 2000))
    whole = normalize(text, clean)
    begins, is_whole = beginning(text, clean, characters)
    assert whole == begins if is_whole else whole.startswith(begins)
    assert is_whole or len(begins) >= characters


@pytest.mark.parametrize(
    "long",
    [
        "很好非常满意吗" * 50_000,
        "word " * 50_000,
        "a" * 300_000,
        "1 " * 150_000,
        "很好，\n" * 100_000,
        "\u0301\u0316" * 150_000 + "a" * 9000,
        f"{'x' * 70}@{'y' * 60}.com " * 2000,
    ],
    ids=["han", "words", "letters", "digits", "lines", "marks", "addresses"],
)
def test_no_more_of_a_text_is_cleaned_than_can_matter(
    long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[int] = []

    def counted(text: str, clean: Clean) -> str:
        cleaned.append(len(text))
        return normalize(text, clean)

    monkeypatch.setattr(module, "normalize", counted)
    clean = Clean(boilerplate=True, mask=tuple(KINDS))
    begins, is_whole = beginning(long, clean, 2000)
    if "\u0301" not in long:
        assert not is_whole
        assert sum(cleaned) <= 5 * (2000 + 2 * MARGIN)
    assert normalize(long, clean).startswith(begins)
    assert sum(cleaned) <= 2.5 * len(long)


@pytest.mark.parametrize("run", [" ", "\n", "\x00", "\u200b", "\u200d", " \r\n", "\u200b\u3000"])
def test_runs_that_nobody_sees_cost_next_to_nothing(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[str] = []

    def kept(text: str, clean: Clean) -> str:
        cleaned.append(text)
        return normalize(text, clean)

    monkeypatch.setattr(module, "normalize", kept)
    text = f"好{run * (300_000 // len(run))}吗"
    assert beginning(text, Clean(), 2000) == (normalize(text, Clean()), True)
    assert sum(map(len, cleaned)) <= 5000


def test_of_a_pile_of_marks_the_first_stay() -> None:
    pile = "e" + "\u0301\u0316" * 200_000  # in order only after 4e10 exchanges
    assert len(normalize(pile, Clean())) <= 1 + MOST_MARKS
    assert normalize("e" + "\u0316" * MOST_MARKS, Clean()) == "e" + "\u0316" * MOST_MARKS


def test_a_line_is_mended_as_a_whole() -> None:
    """Whether it is mojibake is seen by its end."""
    text = "å¾ˆå¥½" + "x" * 30_000
    begins, is_whole = beginning(text, Clean(mojibake=True), 100)
    assert (begins, is_whole) == ("很好" + "x" * 30_000, True)
    endless = text + "x" * 300_000
    begins, is_whole = beginning(endless, Clean(mojibake=True), 100)
    assert not is_whole
    assert normalize(endless, Clean(mojibake=True)).startswith(begins)
    assert len(begins) <= 2 * LONGEST_MENDED
