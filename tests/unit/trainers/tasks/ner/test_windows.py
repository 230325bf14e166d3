"""Every token and every span is learned and read in one window, the one with most context."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import TEXTS
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train
from trainers.tasks.ner.windows import NOWHERE, Window, Windows, belonging, read_windows

ANY_TEXT = st.text(
    st.sampled_from("今天气很好，鑫 \n abHello😀\u200d👩é1\u0301"), max_size=120
) | st.text(max_size=60)


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "unigram"])
def its_tokenizer(request: pytest.FixtureRequest) -> Any:
    made = train(TEXTS * 4, Tokenizer(vocabulary_size=500, algorithm=request.param), 64)
    made.split_special_tokens = True
    return made


def read(tokenizer: Any, text: str, max_windows: int = 99) -> Windows:
    return read_windows(tokenizer, [text], 12, 4, max_windows)[0]


def context(window: Window, first: int, last: int, tokens: int) -> float:
    """Tokens of the window on the narrower side of a span; -1 where it does not hold the span. The
    ends of the text are no edges."""
    inside = [place for place in window.places if place != NOWHERE]
    if first not in inside or last not in inside:
        return -1
    left = first - inside[0] if inside[0] else tokens
    right = inside[-1] - last if inside[-1] < tokens - 1 else tokens
    return min(left, right)


@given(st.integers(1, 60))
def test_a_span_belongs_to_the_window_that_has_most_context_of_it(tokens: int) -> None:
    tokenizer = train(TEXTS * 4, Tokenizer(vocabulary_size=500, algorithm="wordpiece"), 64)
    read_text = read(tokenizer, "天" * tokens)
    windows = read_text.windows
    assert max(len(one.input_ids) for one in windows) <= 12
    for first in range(tokens):
        for last in range(first, min(tokens, first + 12)):
            most = max(context(one, first, last, tokens) for one in windows)
            home = belonging(windows, first, last)
            owners = [
                number
                for number, one in enumerate(windows)
                if one.low <= first + last < one.high and context(one, first, last, tokens) >= 0
            ]
            if home is None:
                assert most == -1
                assert owners == []
                assert last - first >= 4, "what windows share, each of them holds"
            else:
                assert owners == [home.window]
                window = windows[home.window]
                assert context(window, first, last, tokens) == most
                assert (window.places[home.first], window.places[home.last]) == (first, last)


@given(text=ANY_TEXT)
def test_windows_are_the_tokens_of_the_text(its_tokenizer: Any, text: str) -> None:
    found = read(its_tokenizer, text)
    ids = its_tokenizer(text)["input_ids"]
    assert found.input_ids == ids
    tokens = ids[1:-1]
    seen = set()
    for window in found.windows:
        assert (window.input_ids[0], window.input_ids[-1]) == (ids[0], ids[-1])
        assert len(window.places) == len(window.input_ids)
        for token, place in zip(window.input_ids, window.places, strict=True):
            if place != NOWHERE:
                assert tokens[place] == token
                seen.add(place)
    assert seen == {*found.visible.numbers}


@given(text=ANY_TEXT)
def test_spans_of_tokens_to_characters_and_back_is_the_identity(
    its_tokenizer: Any, text: str
) -> None:
    found = read(its_tokenizer, text)
    numbers = found.visible.numbers
    for at, first in enumerate(numbers):
        for last in numbers[at:]:
            start, end = found.characters(first, last)
            assert 0 <= start < end <= len(text)
            assert text[start:end] == text[start:end].strip()
            assert found.located(start, end) == (first, last)


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("😀 Hello 👩‍👩‍👧北京", "北京"),
        ("😀 Hello 👩‍👩‍👧北京", "Hello"),
        ("x 😀", "😀"),
        ("😀北京❤️", "北京"),
        ("🇨🇳北京☆", "北京"),
        ("👍🏽北京👨‍👩‍👧‍👦", "北京"),
        ("去 鑫 吧", "鑫"),
        ("a\n\n b  c", "b  c"),
    ],
)
def test_entities_keep_their_edges(its_tokenizer: Any, text: str, entity: str) -> None:
    start, end = text.index(entity), text.index(entity) + len(entity)
    found = read(its_tokenizer, text)
    place = found.located(start, end)
    assert place is not None
    assert found.characters(*place) == (start, end)


def test_what_has_no_token_has_no_place(its_tokenizer: Any) -> None:
    found = read(its_tokenizer, "很 \n 好")
    assert found.located(1, 4) is None
    assert read(its_tokenizer, "").located(0, 1) is None
    assert len(read(its_tokenizer, "").windows) == 1


def test_of_a_long_text_so_many_windows_are_read(its_tokenizer: Any) -> None:
    found = read(its_tokenizer, "今天天气很好，" * 10_000, max_windows=3)
    assert len(found.windows) == 3
    assert (found.is_cut, len(found.input_ids)) == (True, 12 + 2 * 6)
    assert [len(one.input_ids) for one in found.windows] == [12] * 3
    assert len(found.text) < 5000
    short = read(its_tokenizer, "很好", max_windows=3)
    assert (short.is_cut, len(short.windows)) == (False, 1)
