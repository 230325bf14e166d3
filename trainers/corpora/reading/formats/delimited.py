"""Rows of CSV (RFC 4180), whose fields may span lines: one row is in memory at a time."""

import csv
import re

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import NOT_UTF8, Problem, Row, Rows, Wanted
from trainers.corpora.reading.formats.text_lines import BYTE_ORDER_MARK, Lines

UNDECODED = re.compile("[\ud800-\udfff]")


class RowTooLong(Exception):
    """Between the lines and who waits for a row of them."""


class _Fed:
    """Lines as csv.reader takes them: it may go on after an error, which ends but one row."""

    def __init__(self, lines: Lines):
        self._lines = lines
        self.begin_row()

    def begin_row(self) -> None:
        self.where: str | None = None
        self.is_utf8 = True
        self.lines = 0
        self._row_bytes = 0

    def __iter__(self) -> "_Fed":
        return self

    def __next__(self) -> str:
        where, raw = next(self._lines)
        self.where = self.where or where
        self.lines += 1
        if raw is None:
            raise RowTooLong
        self._row_bytes += len(raw)
        if self._row_bytes > rows.MAX_ROW_BYTES:  # as with a quote that is never closed
            raise RowTooLong
        line = raw.removeprefix(BYTE_ORDER_MARK)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.is_utf8 = False
            return line.decode("utf-8", "surrogateescape")  # marks the field; the row stays whole


def delimited(name: str, lines: Lines, wanted: Wanted) -> Rows:
    fed = _Fed(lines)
    csv.field_size_limit(rows.MAX_ROW_BYTES)
    reader = csv.reader(fed, strict=True)
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
        where = fed.where or name
        if header is None:
            header = _header(name, fields, problem, wanted)
        elif problem is not None:
            for _ in range(fed.lines):  # rows that a quote that is never closed may have taken in
                yield Row(where, None, problem)
        elif len(fields) == len(header):
            values = fields if fed.is_utf8 else map(_or_problem, fields)
            yield Row(where, dict(zip(header, values, strict=True)))
        elif fields:  # none in a blank line
            counts = f"{len(fields)}, where the header has {len(header)}"
            yield Row(where, None, Problem("wrong number of fields", counts))


def _or_problem(field: str) -> str | Problem:
    return NOT_UTF8 if UNDECODED.search(field) else field


def _header(name: str, fields: list[str], problem: Problem | None, wanted: Wanted) -> list[str]:
    """The names of the columns. Raises UserError if they cannot be read."""
    if problem is None and any(UNDECODED.search(field) for field in fields):
        problem = NOT_UTF8
    if problem is not None:
        raise UserError(f"{name}: the header cannot be read: {problem}")
    rows.refuse_missing(name, wanted, fields)
    for column in wanted.values():
        if fields.count(column) > 1:
            raise UserError(f"{name}: {fields.count(column)} columns are called {column!r}")
    return fields
