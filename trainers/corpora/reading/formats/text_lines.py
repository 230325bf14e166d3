"""Lines of a stream, and rows of text and JSONL: one line is in memory at a time."""

import collections
import dataclasses
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Problem, Row, Rows, Wanted

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SKIPPED_BYTES = 1 << 20
KEY_END = re.compile(rb'"\s*:')
"""Behind every key of JSON, and in few texts."""

HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""The beginning of a surrogate's escape in JSON."""


@dataclasses.dataclass(frozen=True)
class Lines:
    numbered: Iterator[tuple[str, bytes | None]]
    """Where each line stands, and its bytes: None if they are too many."""
    undecodable: Problem
    """What to tell of a line that is not UTF-8."""

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        return self.numbered


def numbered(
    stream: io.BufferedReader, name: str, begin: int = 0, end: int | None = None
) -> Iterator[tuple[str, bytes | None]]:
    """Every line that begins in a range of bytes. Only a seekable stream has a later range."""
    offset = begin
    if begin:
        stream.seek(begin - 1)
        offset += _skip_line(stream) - 1  # none if a line begins right here
    number = 0
    while end is None or offset < end:
        raw: bytes | None = stream.readline(rows.MAX_ROW_BYTES + 1)
        if not raw:
            return
        size = len(raw)
        if size > rows.MAX_ROW_BYTES and not raw.endswith(b"\n"):
            raw = None
            size += _skip_line(stream)
        number += 1
        yield f"{name}:byte {offset}" if begin else f"{name}:{number}", raw
        offset += size


def _skip_line(stream: io.BufferedReader) -> int:
    """How many bytes there were to the line's end."""
    size = 0
    while piece := stream.readline(SKIPPED_BYTES):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return size


def text(name: str, lines: Lines, wanted: Wanted) -> Rows:
    """A row for each line, with the line in its one column."""
    column = wanted.get("text", "text")
    rows.refuse_columns(name, wanted, [column])
    for where, raw in lines:
        if raw is None:
            yield Row(where, None, rows.too_long())
        elif not raw.isspace():
            try:
                yield Row(where, {column: raw.removeprefix(BYTE_ORDER_MARK).decode()})
            except UnicodeDecodeError:
                yield Row(where, None, lines.undecodable)


def jsonl(name: str, lines: Lines, wanted: Wanted) -> Rows:
    for where, raw in lines:
        if raw is None:
            yield Row(where, None, rows.too_long())
            continue
        line = raw.removeprefix(BYTE_ORDER_MARK).strip()
        if line:
            yield json_row(where, line, lines.undecodable)


def json_row(where: str, written: bytes, undecodable: Problem) -> Row:
    """The row of an object that is written in JSON."""
    if len(written) > rows.MAX_ROW_BYTES:
        return Row(where, None, rows.too_long())
    try:
        row = from_json(written, cache_strings="keys")
    except ValueError as error:
        reason = str(error).replace(" at line 1 column", " at column")
        if reason.startswith("EOF while parsing an object"):
            reason += "; a row is a line, unless the file is an array of objects"
        if "hex escape" in reason and HALF.search(written):
            reason = f"half of a surrogate pair, which is no character, {reason}"
        is_utf8 = written.decode(errors="ignore").encode() == written
        return Row(where, None, Problem("not JSON", reason) if is_utf8 else undecodable)
    if isinstance(row, dict):
        repeated = _repeated_key(written, row)
        return Row(where, row) if repeated is None else Row(where, None, repeated)
    return Row(where, None, Problem("not an object with columns", type(row).__name__))


def _repeated_key(written: bytes, row: dict[str, Any]) -> Problem | None:
    """What to tell of an object that has a key more than once, or holds one that does: its parser
    keeps the last value alone. Another parser tells, but takes several times as long; so counts of
    colons, and of ends of keys, first rule out nearly all objects."""
    colons = written.count(b":")
    if colons == len(row) or colons == (keys := _key_count(row)):
        return None
    if len(KEY_END.findall(written)) == keys:
        return None
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        counts = collections.Counter(key for key, _ in pairs)
        repeated.extend(key for key, count in counts.items() if count > 1)

    json.loads(written, object_pairs_hook=note)
    return Problem("a key twice", f"{repeated[0]!r}") if repeated else None


def _key_count(value: Any) -> int:
    """Keys of an object and of all inside it."""
    if isinstance(value, dict):
        return len(value) + sum(map(_key_count, value.values()))
    return sum(map(_key_count, value)) if isinstance(value, list) else 0
