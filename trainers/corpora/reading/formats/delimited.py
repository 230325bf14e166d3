"""Rows of CSV (RFC 4180), whose fields may span lines, and of its like with other delimiters: one
row is in memory at a time."""

import csv
import itertools
import re
from collections.abc import Iterator
from typing import Any

from cluster.errors import UserError
from trainers.corpora.reading.formats import endings, rows
from trainers.corpora.reading.formats.rows import Problem, Row, Rows, Wanted
from trainers.corpora.reading.formats.text_lines import BYTE_ORDER_MARK, Lines

UNDECODED = re.compile("[\0\ud800-\udfff]")
"""Half a pair, as which a byte that is not UTF-8 is decoded; or the zeros of UTF-16."""
TAB = "\t"
TSV = (".tsv", ".tab")
DELIMITERS = (",", TAB, ";", "|")
"""That are found by themselves: RFC 4180's, and what Excel and databases write."""
SEPARATOR = re.compile(r"sep=(.)\s*")
"""A line above the header, by which Excel is told the delimiter."""


class RowTooLong(csv.Error):
    """As with a quote that is never closed."""


class _Fed:
    """Lines as csv.reader takes them: it may go on after an error, which ends but one row."""

    def __init__(self, lines: Lines):
        self._lines = iter(lines)
        self.begin_row()

    def begin_row(self) -> None:
        self.read: list[tuple[str, str | None]] = []
        """The lines of the row so far, and where they stand; None for one that is too long."""
        self.is_utf8 = True
        self._row_characters = 0

    def peek(self) -> str:
        """The first line, which stays to be read."""
        first = list(itertools.islice(self._lines, 1))
        self._lines = itertools.chain(first, self._lines)
        raw = first[0][1] if first else b""
        return (raw or b"").removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        where, raw = next(self._lines)
        if raw is None:
            self.read.append((where, None))
            raise RowTooLong
        raw = raw.removeprefix(BYTE_ORDER_MARK)
        try:
            line = raw.decode()
        except UnicodeDecodeError:  # marks the field; the row stays whole
            self.is_utf8, line = False, raw.decode("utf-8", "surrogateescape")
        self.read.append((where, line))
        self._row_characters += len(line)
        if self._row_characters > rows.MAX_ROW_BYTES:
            raise RowTooLong
        return line


def delimited(
    name: str,
    lines: Lines,
    wanted: Wanted,
    delimiter: str | None,
    named: Wanted,
    is_whole: bool = False,
) -> Rows:
    """The rows below the header. The recipe says the `delimiter`, or `named` columns by which it is
    found."""
    fed = _Fed(lines)
    csv.field_size_limit(rows.MAX_ROW_BYTES)
    while fed.peek().isspace():
        next(fed)
    if separator := SEPARATOR.fullmatch(fed.peek()):
        next(fed)
        delimiter = delimiter or separator[1]
    delimiter = delimiter or delimiter_of(fed.peek(), named, endings(name)[0] in TSV)
    reader = csv.reader(fed, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        fed.begin_row()
        problem, fields = None, []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except RowTooLong:
            problem = rows.too_long()
        except csv.Error as error:
            problem = Problem("not CSV", str(error))
        if header is None:
            header = _header(name, fields, problem, lines.undecodable)
            rows.refuse_columns(name, wanted, header, is_whole)
            continue
        read = _unquoted(fed.read, problem, len(header)) if delimiter == TAB else None
        if read is None and problem is not None:
            # Each line counts: a quote that is never closed may have taken rows in.
            yield from (Row(fed.read[0][0], None, problem) for _ in fed.read)
        elif read is None and fields:  # none in a blank line
            read = [(fed.read[0][0], fields)]
        for where, values in read or ():
            if len(values) != len(header):
                counts = f"{len(values)}, where the header has {len(header)}"
                yield Row(where, None, Problem("wrong number of fields", counts))
                continue
            row: dict[str, Any] = dict(zip(header, values, strict=True))
            if not fed.is_utf8:
                row |= {key: lines.undecodable for key in row if UNDECODED.search(row[key])}
            yield Row(where, row)


def delimiter_of(header: str, wanted: Wanted, is_tsv: bool) -> str:
    """The delimiter of a file with this first line: the one by which it has the most of the wanted
    columns, then the one by which it has the most columns. Pure."""

    def fits(delimiter: str) -> tuple[int, int, bool]:
        try:
            columns = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            columns = []
        return len({*wanted.values()} & {*columns}), len(columns), is_tsv and delimiter == TAB

    return max(DELIMITERS, key=fits)


def _unquoted(
    read: list[tuple[str, str | None]], problem: Problem | None, columns: int
) -> list[tuple[str, list[str]]] | None:
    """Lines between tabs as rows of their own, if quotes among them are but text, as in files whose
    fields are never quoted: they cannot be read otherwise, or several are whole rows by themselves.
    Pure."""
    if problem is None and (len(read) == 1 or any('""' in (line or "") for _, line in read)):
        return None  # quotes are doubled only where fields are quoted
    split = [(where, (line or "").rstrip("\r\n").split(TAB)) for where, line in read]
    is_whole = all(line is not None for _, line in read)
    return split if is_whole and all(len(fields) == columns for _, fields in split) else None


def _header(
    name: str, fields: list[str], problem: Problem | None, undecodable: Problem
) -> list[str]:
    """The names of the columns. Raises UserError if they cannot be read."""
    is_decoded = problem is None and not any(UNDECODED.search(field) for field in fields)
    if not is_decoded and (problem is None or undecodable.detail):
        problem = undecodable
    if problem is not None:
        raise UserError(f"{name}: the header cannot be read: {problem}")
    return fields
