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
from cluster.recipe.section import Invalid
from trainers.corpora.examples.label_values import label_of
from trainers.corpora.reading.config import GROUP, LABEL, TEXT, Source
from trainers.corpora.reading.formats import archive_of, encodings, format_of
from trainers.corpora.reading.formats.archives import members, reading_archive
from trainers.corpora.reading.formats.array import array, is_array
from trainers.corpora.reading.formats.delimited import delimited
from trainers.corpora.reading.formats.huggingface import huggingface, saved_columns
from trainers.corpora.reading.formats.parquet import column_names, parquet
from trainers.corpora.reading.formats.rows import Problem, Rows, Wanted, no_column
from trainers.corpora.reading.formats.streams import decompressed, filesystem, open_content, reading
from trainers.corpora.reading.formats.text_lines import Lines, jsonl, numbered, text
from trainers.corpora.reading.sources import Part, files, located

ROWS_LOOKED_AT = 100
"""More than one row, since rows of JSONL may differ, and the first may be broken."""
CHARACTERS_LOOKED_AT = 1_000_000
"""Of long texts, fewer rows."""


Label = str | tuple[str, ...]
"""One, or the several of a list."""


@dataclasses.dataclass(frozen=True)
class Document:
    text: str | None
    """None if there is a problem."""
    label: Label | None
    where: str
    """`file:line`, for errors."""
    problem: Problem | None = None
    group: str | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What a task has of it besides, by role."""


def read(source: Source, part: Part) -> Iterator[Document]:
    """The documents of a part."""
    for where, columns, problem in _rows(source, part, source.wanted):
        if columns is None:
            yield Document(None, None, where, problem)
        else:
            yield _document(source, columns, where)


def columns_of(source: Source, file: str, wanted: Collection[str]) -> Collection[str]:
    """The columns that a file has; where rows differ, those of the first ones. Reads no further
    than it takes to find those wanted. Raises UserError for a file of no known format, or whose
    first rows all cannot be read."""
    is_archive = archive_of(file) is not None
    kind = next(members(file, source.format)).format if is_archive else None
    kind = kind or format_of(file, source.format)
    if kind == "parquet":
        return column_names(file)
    named = {"text": source.text_column} if kind == "text" else {}
    rows = itertools.islice(_rows(source, Part(file), named), ROWS_LOOKED_AT)
    found: dict[str, None] = {}
    unreadable: list[str] = []
    characters = 0
    for where, columns, problem in rows:
        if columns is None:
            unreadable.append(f"{where}: {problem}")
        else:
            found |= dict.fromkeys(columns)
            characters += sum(len(each) for each in columns.values() if isinstance(each, str))
        if found.keys() >= {*wanted} or characters > CHARACTERS_LOOKED_AT:
            break
    if unreadable and not found:
        raise UserError(unreadable[0])
    return found


def first_columns(source: Source, wanted: Collection[str]) -> Collection[str]:
    """The columns of a source's first file that is not empty: those of the first rows, or the
    wanted ones, which may say something of their own. None of what is not there, cannot be read, or
    is on a hub: whoever reads it tells."""
    if source.dataset is not None:
        return saved_columns(source.dataset, source.dataset_split)
    try:
        for file in located(source).files:
            fs, path = filesystem(file)
            if fs.get_file_info(path).size:
                return columns_of(source, file, wanted)
    except (Invalid, UserError):
        pass
    return ()


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
            yield from delimited(name, lines, columns, source.delimiter, source.wanted)
        case "jsonl":
            yield from jsonl(name, lines, columns)
        case _:
            yield from text(name, lines, columns)


def _document(source: Source, columns: Mapping[str, Any], where: str) -> Document:
    wanted = source.wanted
    text = _value(columns, TEXT, wanted[TEXT]) if TEXT in wanted else ""
    label: Label | Problem | None = source.label
    if LABEL in wanted:
        label = _label(source, columns, wanted[LABEL])
    group: str | Problem | None = None
    if GROUP in wanted and columns.get(wanted[GROUP], "") is not None:
        group = _value(columns, GROUP, wanted[GROUP])
    values = {
        role: columns[column] if columns.get(column) is not None else _absent(columns, role, column)
        for role, column in wanted.items()
        if role not in (TEXT, LABEL, GROUP)
    }
    for value in (text, label, group, *values.values()):
        if isinstance(value, Problem):
            return Document(None, None, where, value)
    assert isinstance(text, str)
    if source.tagged:
        text = "".join(word.rpartition("/")[0] for word in text.split())
    return Document(text, label, where, group=group, values=values)  # type: ignore[arg-type]


def _label(source: Source, columns: Mapping[str, Any], column: str) -> Label | Problem:
    value = columns.get(column)
    if isinstance(value, list):
        found = [label_of(one) for one in value]
        if None in found:
            kind = type(value[found.index(None)]).__name__
            return Problem(f"column {column!r} has {kind} in a list, which is not a label")
        if "" in found and "" not in (source.label_map or {}):
            return Problem(f"an empty label in a list of column {column!r}")
        return tuple(found)  # type: ignore[arg-type]
    label = _value(columns, LABEL, column)
    if label == "" and "" not in (source.label_map or {}):
        return Problem(f"no label in column {column!r}")
    return label


def _value(columns: Mapping[str, Any], role: str, column: str) -> str | Problem:
    """What a column has for a role."""
    if column not in columns:
        return _absent(columns, role, column)
    value = columns[column]
    if isinstance(value, (str, Problem)):
        return value
    if value is None or value != value:
        return _absent(columns, role, column)
    found = None if role == TEXT else label_of(value)
    if found is None:
        what = "text" if role == TEXT else "a label"
        return Problem(f"column {column!r} is {type(value).__name__}, not {what}")
    return found


def _absent(columns: Mapping[str, Any], role: str, column: str) -> Problem:
    if column not in columns:
        return no_column(role, column, columns)
    return Problem(f"no {role} in column {column!r}")
