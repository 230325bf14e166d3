"""From the tokens of an answer to its text, as they come."""

from collections.abc import Sequence
from typing import Any, NamedTuple

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Piece(NamedTuple):
    text: str
    """What is new, and will not change by what comes."""
    is_stopped: bool
    """Whether a stop sequence came, before which the text ends."""


class Detokenizer:
    """Gives text once it is sure: a character whose bytes are in several tokens comes whole, and
    what may be the beginning of a stop sequence waits."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), keeps_special: bool = False):
        """`keeps_special` leaves special tokens in the text, as those that begin a call of a
        tool."""
        self._tokenizer, self._stop, self._keeps_special = tokenizer, stop, keeps_special
        self._ids: list[int] = []
        self._begin = 0
        """Where the tokens begin that are decoded together: a token behind white space is not
        decoded alone."""
        self._read = 0
        """How many tokens have come out as text."""
        self._held = ""
        """Text that may be the beginning of a stop sequence."""

    def add(self, token: int) -> Piece:
        self._ids.append(token)
        before = self._decoded(self._ids[self._begin : self._read])
        now = self._decoded(self._ids[self._begin :])
        if now.endswith(REPLACEMENT) or len(now) <= len(before):
            return Piece("", False)
        self._begin, self._read = self._read, len(self._ids)
        return self._released(now[len(before) :])

    def end(self) -> str:
        """What is left: the beginning of a stop sequence that did not come. Bytes that are no whole
        character are dropped."""
        before = self._decoded(self._ids[self._begin : self._read])
        rest = self._decoded(self._ids[self._begin :])[len(before) :].rstrip(REPLACEMENT)
        piece = self._released(rest)
        return piece.text if piece.is_stopped else piece.text + self._held

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids,
            skip_special_tokens=not self._keeps_special,
            clean_up_tokenization_spaces=False,
        )
        return text

    def _released(self, new: str) -> Piece:
        text = self._held + new
        found = [place for place in map(text.find, self._stop) if place >= 0]
        if found:
            return Piece(text[: min(found)], True)
        keep = max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return Piece(text[: len(text) - keep], False)


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop sequence. Pure."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if stop.startswith(text[-size:])), 0)
