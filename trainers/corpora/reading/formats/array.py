"""Rows of a JSON array of objects, as exports have them: a piece of it is in memory at a time."""

import io
import json
import re

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Problem, Rows
from trainers.corpora.reading.formats.text_lines import json_row

HEAD = re.compile(rb'(?:\xef\xbb\xbf)?\s*(\{\s*"[^"\\]*" ?: ?(?=\[\s*\{))?\[\s*[{\]]')
BEGINNING = re.compile(r'\s*(\{\s*"[^"\\]*" ?: ?)?\[\s*')
COMMA, END = re.compile(r"\s*,\s*"), re.compile(r"(?:\s*\[)?\s*\]\s*")
END_INSIDE, FURTHER_KEY = re.compile(r"\s*\]\s*\}\s*"), re.compile(r"\s*\]\s*,")
PIECE_CHARACTERS = 1 << 20


def is_array(head: bytes) -> bool:
    """Whether a file that begins so is an array of objects, by itself or as the one value of an
    object, not lines of objects."""
    begin = HEAD.match(head)
    if begin is None or begin[1] is None:
        return begin is not None
    # The first value of a line may be an array too.
    first, _, more = head.strip().partition(b"\n")
    return not first.rstrip().endswith(b"}") if more else first.endswith(b"]}")


def array(name: str, stream: io.BufferedReader, undecodable: Problem) -> Rows:
    """A row for each item. Raises UserError for what is no JSON: nothing says where the next row
    would begin."""
    characters = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape")
    decoder = json.JSONDecoder(strict=False)
    text, at, number, is_end, last = "", 0, 1, False, END
    while not (is_end and last.fullmatch(text, at)):
        where = f"{name}:item {number}"
        begin = (BEGINNING if number == 1 else COMMA).match(text, at)
        reason = "the array does not go on with ',' or end with ']'"
        if begin:
            if number == 1 and begin[1]:
                last = END_INSIDE
            try:
                _, end = decoder.raw_decode(text, begin.end())
                if end < len(text):  # else it may go on, as a number does
                    item = text[begin.end() : end].encode("utf-8", "surrogateescape")
                    yield json_row(where, item, undecodable)
                    at, number = end, number + 1
                    continue
            except json.JSONDecodeError as error:
                reason = error.msg
            except RecursionError:
                raise UserError(f"{where}: not JSON: nested too deep") from None
        left = text[at:]
        if last is END_INSIDE and FURTHER_KEY.match(text, at):
            raise UserError(
                f"{name}: an object with more than one key; write its array of rows alone"
            )
        if is_end or len(left) > rows.MAX_ROW_BYTES:
            raise UserError(f"{where}: not JSON: {reason}")
        # As much again as there is, so that a long item is not decoded from its beginning often.
        more = characters.read(max(PIECE_CHARACTERS, len(left)))
        text, at, is_end = left + more, 0, not more
