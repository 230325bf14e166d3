"""Text comes when it is sure, and is the whole of it."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.generation.text import Detokenizer


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids: Sequence[int], **how: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def pieces(data: bytes, stop: Sequence[str] = ()) -> tuple[list[str], bool]:
    detokenizer, found = Detokenizer(Bytes(), stop), []
    for one in data:
        piece = detokenizer.add(one)
        found.append(piece.text)
        if piece.is_stopped:
            return found, True
    return [*found, detokenizer.end()], False


def test_a_character_in_several_tokens_comes_whole() -> None:
    found, _ = pieces("很好 👍!".encode())
    assert [one for one in found if one] == ["很", "好", " ", "👍", "!"]


def test_bytes_that_are_no_whole_character_at_the_end_do_not_come() -> None:
    found, _ = pieces("好".encode() + "好".encode()[:2])
    assert "".join(found) == "好"


@pytest.mark.parametrize(
    ("text", "stop", "expected", "is_stopped"),
    [
        ("one END two", ["END"], "one ", True),
        ("one EN", ["END"], "one EN", False),
        ("EEND", ["END"], "E", True),
        ("aab aac", ["aac", "never"], "aab ", True),
        ("ab\n\nUser:", ["\n\n", "User:"], "ab", True),
        ("没有停止", ["停止"], "没有", True),
    ],
)
def test_an_answer_ends_before_a_stop_sequence(
    text: str, stop: Sequence[str], expected: str, is_stopped: bool
) -> None:
    found, stopped = pieces(text.encode(), stop)
    assert ("".join(found), stopped) == (expected, is_stopped)


def test_what_may_be_a_stop_sequence_waits() -> None:
    found, _ = pieces(b"aEb", ["EN"])
    assert found == ["a", "", "Eb", ""]


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_pieces_are_the_text_up_to_the_first_stop_sequence(text: str, stop: list[str]) -> None:
    text = text.replace("\ufffd", "?").encode("utf-8", "ignore").decode()
    found, is_stopped = pieces(text.encode(), stop)
    together = "".join(found)
    assert text.startswith(together)
    assert is_stopped == any(one in text for one in stop)
    assert not any(one in together for one in stop)
    if not is_stopped:
        assert together == text


@pytest.mark.parametrize("text", ["Anna lives in Rome.", "很好，非常满意！ 👍", "  two  spaces"])
def test_pieces_of_a_real_tokenizer_are_its_text(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(tokenizer)
    found = [detokenizer.add(one).text for one in ids]
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join([*found, detokenizer.end()]) == whole
