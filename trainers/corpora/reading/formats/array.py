"""Rows of a JSON array of objects, as exports have them: one row is in memory at a time."""

import io
import json
import re

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Problem, Rows
from trainers.corpora.reading.formats.text_lines import json_row

BEGINNING = re.compile(rb'(?:\xef\xbb\xbf)?\s*(\{\s*"[^"\\]*" ?: ?(?=\[\s*\{))?\[\s*[{\]]')
SPACE = re.compile(r"\s*")
PIECE_CHARACTERS = 1 << 20


def is_array(head: bytes) -> bool:
    """Whether a file that begins so is an array of objects, by itself or as the one value of an
    object, not lines of objects."""
    found = BEGINNING.match(head)
    if found is None or found[1] is None:
        return found is not None
    # The first value of a line may be an array too.
    first, _, more = head.strip().partition(b"\n")
    return not first.rstrip().endswith(b"}") if more else first.endswith(b"]}")


def array(name: str, stream: io.BufferedReader, undecodable: Problem) -> Rows:
    """A row for each item. Raises UserError for what is no JSON: nothing says where the next row
    would begin."""
    items = _Items(name, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape"))
    is_inside = items.next_character() == "{"
    if is_inside:
        items.skip("{")
        items.item(name)
        items.skip(":")
    items.skip("[")
    number = 0
    while items.next_character() != "]":
        if number:
            items.skip(",")
        number += 1
        where = f"{name}:item {number}"
        yield json_row(where, items.item(where), undecodable)
    items.skip("]")
    if is_inside and items.next_character() == ",":
        raise UserError(f"{name}: an object with more than one key; write its array of rows alone")
    if is_inside:
        items.skip("}")
    if items.next_character():
        raise UserError(f"{name}: not JSON: something stands behind the array")


class _Items:
    """What is left of the array, of which a piece is in memory."""

    def __init__(self, name: str, stream: io.TextIOWrapper):
        self._name, self._stream = name, stream
        self._text, self._at = "", 0
        self._decoder = json.JSONDecoder(strict=False)

    def next_character(self) -> str:
        """Or none at the end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> None:
        found = self.next_character()
        if found != character:
            what = repr(found) if found else "the end of the file"
            raise UserError(f"{self._name}: not JSON: {what} stands where {character!r} should")
        self._at += 1

    def item(self, where: str) -> bytes:
        """The next one, as it is written."""
        self.next_character()
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
                # A number that ends with the piece may go on in the next.
                if end < len(self._text) or not self._read():
                    item, self._at = self._text[self._at : end], end
                    return item.encode("utf-8", "surrogateescape")
                continue
            except json.JSONDecodeError as error:
                told = f"{where}: not JSON: {error.msg}"
            except RecursionError:
                raise UserError(f"{where}: not JSON: nested too deep") from None
            if len(self._text) - self._at > rows.MAX_ROW_BYTES:
                raise UserError(f"{told}, or {rows.too_long()}")
            if not self._read():
                raise UserError(told)

    def _read(self) -> bool:
        """Reads as much again as it has, so that a long item is not decoded from its beginning
        often. Whether there was more."""
        left = self._text[self._at :]
        more = self._stream.read(max(PIECE_CHARACTERS, len(left)))
        self._text, self._at = left + more, 0
        return bool(more)
