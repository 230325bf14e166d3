"""Read the documents of a source, part by part, as a stream.

A row that cannot be read comes as a document with a problem, which the caller counts; what makes a
whole file unreadable raises UserError.
"""

import dataclasses
import io
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from cluster.errors import UserError
from trainers.corpora.labels.values import label_of
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats import archive_of, encodings, format_of
from trainers.corpora.reading.formats.archives import members, reading_archive
from trainers.corpora.reading.formats.array import array, is_array
from trainers.corpora.reading.formats.delimited import delimited
from trainers.corpora.reading.formats.huggingface import huggingface
from trainers.corpora.reading.formats.lines import Lines, jsonl, numbered, text
from trainers.corpora.reading.formats.parquet import column_names, parquet
from trainers.corpora.reading.formats.rows import Problem, Rows, Wanted, no_column
from trainers.corpora.reading.formats.streams import decompressed, open_content, reading
from trainers.corpora.reading.sources import Part, files

ROWS_LOOKED_AT = 100
"""More than one row, since rows of JSONL may differ, and the first may be broken."""


@dataclasses.dataclass(frozen=True)
class Document:
    text: str | None
    """None if there is a problem."""
    label: str | None
    where: str
    """`file:line`, for errors."""
    problem: Problem | None = None
    group: str | None = None


def read(source: Source, part: Part) -> Iterator[Document]:
    """The documents of a part."""
    for where, columns, problem in _rows(source, part, wanted(source)):
        if columns is None:
            yield Document(None, None, where, problem)
        else:
            yield _document(source, columns, where)


def wanted(source: Source) -> dict[str, str]:
    """The columns that are read, by the keys of the source that name them."""
    named = {key: getattr(source, key) for key in ("text", "label_column", "group_column")}
    return {key: column for key, column in named.items() if column is not None}


def columns_of(source: Source, file: str) -> Collection[str]:
    """The columns that a file has; where rows differ, those of the first ones. Reads no further
    than it takes to find the wanted ones. Raises UserError for a file of no known format, or whose
    first rows all cannot be read."""
    is_archive = archive_of(file) is not None
    kind = next(members(file, source.format)).format if is_archive else None
    kind = kind or format_of(file, source.format)
    if kind == "parquet":
        return column_names(file)
    named = {"text": source.text} if kind == "text" else {}
    rows = itertools.islice(_rows(source, Part(file), named), ROWS_LOOKED_AT)
    found: dict[str, None] = {}
    unreadable: list[str] = []
    for where, columns, problem in rows:
        if columns is None:
            unreadable.append(f"{where}: {problem}")
        else:
            found |= dict.fromkeys(columns)
        if found.keys() >= {*wanted(source).values()}:
            break
    if unreadable and not found:
        raise UserError(unreadable[0])
    return found


def too_many_unreadable(first: Document, unreadable: int, rows: int, limit: float) -> str | None:
    """What to tell of rows of which more than the limit, a share, cannot be read; or None. Pure."""
    if unreadable <= limit * rows:
        return None
    return (
        f"{first.where}: {first.problem} (unreadable: {unreadable:,} of {rows:,} rows, "
        f"over corpora.clean.max_unreadable = {limit:g}; mend them, or raise it to drop them)"
    )


def unreadable_row(source: Source, files: Iterable[str], count: int) -> str | None:
    """The first of the first rows that cannot be read, and why."""
    read_rows = (row for file in files for row in _rows(source, Part(file), {}))
    for where, columns, problem in itertools.islice(read_rows, count):
        if columns is None:
            return f"{where}: {problem}"
    return None


def every_text(path: str, key: str) -> Iterator[str]:
    """All texts of an evaluation set's files: of rows with columns, each column's, and those in
    lists and objects. Raises UserError for a row that cannot be read, since what is like it could
    not be found."""
    source = Source(path=path)
    for file in files(source, key):
        for where, columns, problem in _rows(source, Part(file), {}):
            if columns is None:
                raise UserError(f"{where}: {problem} (in {key}, where every row is needed)")
            yield from _texts_in(columns)


def _texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            yield from itertools.chain.from_iterable(map(_texts_in, value.values()))
        case list():
            yield from itertools.chain.from_iterable(map(_texts_in, value))


def _rows(source: Source, part: Part, columns: Wanted) -> Rows:
    """The rows of a part with the wanted columns, if not more."""
    file, begin, end = part.file, part.begin, part.end
    if file is None:
        assert source.dataset is not None
        split = source.dataset_split
        yield from huggingface(source.dataset, split, columns, begin, end, part.commit)
    elif archive_of(file) is not None:
        for member in members(file, source.format, begin, end):
            name = f"{file}/{member.name}"
            with reading_archive(file), decompressed(member.open(), member.name) as stream:
                yield from _of_content(source, member.format, name, stream, columns)
    elif (kind := format_of(file, source.format)) == "parquet":
        yield from parquet(file, columns, begin, end)
    else:
        with reading(file), open_content(file) as stream:
            yield from _of_content(source, kind, file, stream, columns, begin, end)


def _of_content(
    source: Source,
    kind: str,
    name: str,
    stream: io.BufferedReader,
    columns: Wanted,
    begin: int = 0,
    end: int | None = None,
) -> Rows:
    """The rows of a file of lines, or of a JSON array, in any encoding."""
    if begin:
        stream.seek(begin - 1)
    content, undecodable, head = encodings.as_utf8(stream, source.encoding, is_whole=not begin)
    if encodings.has_many_zeros(head):
        raise UserError(f"{name}: zeros among the text; {encodings.advice(head)}")
    if kind == "jsonl" and not begin and is_array(head):
        yield from array(name, content, undecodable)
        return
    lines = Lines(numbered(content, name, begin, end), undecodable)
    match kind:
        case "csv":
            yield from delimited(name, lines, columns, source.delimiter)
        case "jsonl":
            yield from jsonl(name, lines, columns)
        case _:
            yield from text(name, lines, columns)


def _document(source: Source, columns: Mapping[str, Any], where: str) -> Document:
    found = _text(columns, "text", source.text)
    label: str | Problem | None = source.label
    if source.label_column is not None:
        label = _text(columns, "label_column", source.label_column)
        if label == "" and "" not in (source.label_map or {}):
            label = Problem(f"no label in column {source.label_column!r}")
    group: str | Problem | None = None
    if source.group_column is not None and columns.get(source.group_column, "") is not None:
        group = _text(columns, "group_column", source.group_column)
    if isinstance(found, Problem):
        return Document(None, None, where, found)
    if isinstance(label, Problem):
        return Document(None, None, where, label)
    if isinstance(group, Problem):
        return Document(None, None, where, group)
    if source.tagged:
        found = "".join(word.rpartition("/")[0] for word in found.split())
    return Document(found, label, where, group=group)


def _text(columns: Mapping[str, Any], key: str, column: str) -> str | Problem:
    """The text or the label in a column."""
    if column not in columns:
        return no_column(key, column, columns)
    value = columns[column]
    if isinstance(value, (str, Problem)):
        return value
    if value is None or value != value:
        return Problem(f"no {key.removesuffix('_column')} in column {column!r}")
    found = None if key == "text" else label_of(value)
    if found is None:
        what = "text" if key == "text" else "a label"
        return Problem(f"column {column!r} is {type(value).__name__}, not {what}")
    return found
