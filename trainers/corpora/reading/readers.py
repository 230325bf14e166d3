"""Read the documents of a source, part by part, as a stream.

A row that cannot be read comes as a document with a problem, which the caller counts; what makes a
whole file unreadable raises UserError.
"""

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cluster.errors import UserError
from cluster.recipe.section import Invalid
from trainers.corpora.examples.label_values import label_of
from trainers.corpora.reading.config import GROUP, LABEL, SLICE_CHARACTERS, TEXT, Source
from trainers.corpora.reading.formats import archive_of, compression_of, encodings, format_of
from trainers.corpora.reading.formats.archives import members, reading_archive
from trainers.corpora.reading.formats.array import array, is_array
from trainers.corpora.reading.formats.conll import conll
from trainers.corpora.reading.formats.delimited import delimited
from trainers.corpora.reading.formats.huggingface import huggingface, saved_columns
from trainers.corpora.reading.formats.items import yaml
from trainers.corpora.reading.formats.parquet import parquet, schema
from trainers.corpora.reading.formats.rows import Problem, Rows, Wanted, no_column
from trainers.corpora.reading.formats.sentences import TAGS, TOKENS, tagged
from trainers.corpora.reading.formats.streams import decompressed, filesystem, open_content, reading
from trainers.corpora.reading.formats.text_lines import Lines, jsonl, numbered, text
from trainers.corpora.reading.sources import Part, found_files, located

FIRST_ROWS = 100
"""More than one, since rows of JSONL may differ, and the first may be broken."""

SLICED_ROWS = 1_000
"""Of which one has each column to slice by."""

MADE_OF_TAGGED = (TOKENS, TAGS)
"""Columns that a source has besides those of its files, if it is `tagged`."""

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
    slices: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    """What an evaluation is sliced by."""
    share: float | None = None
    """Of a row that is read whole: as in Row."""


def read(source: Source, part: Part, optional: Collection[str] = ()) -> Iterator[Document]:
    """The documents of a part; of `optional` roles a document may lack any."""
    wanted = source.wanted
    for where, columns, problem, _ in _rows(source, part, wanted):
        if columns is None:
            yield Document(None, None, where, problem)
        else:
            yield _document(source, _there(wanted, optional, columns), columns, where)


def _there(wanted: Wanted, optional: Collection[str], columns: Mapping[str, Any]) -> Wanted:
    """Without the optional roles that a row lacks."""
    return {
        role: column
        for role, column in wanted.items()
        if role not in optional or columns.get(column) is not None
    }


def read_whole(
    source: Source, part: Part, optional: Collection[str] = ()
) -> Iterator[tuple[Document, Mapping[str, Any]]]:
    """The same, each with all columns of its row; none of one that cannot be read. Words without
    tags have no column of tags."""
    wanted = source.wanted
    for where, columns, problem, share in _rows(source, part, wanted, is_whole=True):
        if columns is None:
            yield Document(None, None, where, problem, share=share), {}
            continue
        document = _document(source, _there(wanted, optional, columns), columns, where)
        document = dataclasses.replace(document, share=share)
        if TAGS not in wanted.values() and isinstance(columns.get(TAGS), Problem):
            columns = {name: value for name, value in columns.items() if name != TAGS}
        problems = [value for value in columns.values() if isinstance(value, Problem)]
        if problems and document.problem is None:
            document = dataclasses.replace(document, text=None, problem=problems[0])
        yield document, columns


def first_columns(
    source: Source, wanted: Collection[str], rows: int = FIRST_ROWS
) -> dict[str, Any]:
    """The columns of a source's first file that is not empty: where rows differ those of the first
    ones, or the wanted ones. None of what is not there, cannot be read, or is on a hub: whoever
    reads it tells. Each comes with the first value of rows that is not empty, if one was read."""
    columns: dict[str, Any] = dict.fromkeys(MADE_OF_TAGGED if source.tagged else ())
    if source.dataset is not None:
        saved = saved_columns(source.dataset, source.dataset_split)
        return columns | dict.fromkeys(saved)
    with contextlib.suppress(Invalid, UserError):
        for file in located(source).files:
            fs, path = filesystem(file)
            if not fs.get_file_info(path).size:
                continue
            if archive_of(file) is None and format_of(file, source.format) == "parquet":
                return columns | dict.fromkeys(schema(file).names)
            for row in itertools.islice(_rows(source, Part(file), {}), rows):
                for name, value in (row.columns or {}).items():
                    columns[name] = columns.get(name) or value
                if columns.keys() >= {*wanted}:
                    break
            break
    return columns


def absent_slice(source: Source) -> Problem | None:
    """What to tell of a column to slice by that none of the first rows has; a typing error would
    else look like rows without a value."""
    columns = {name: source.wanted[name] for name in source.slices}
    known = first_columns(source, columns.values(), SLICED_ROWS) if columns else {}
    for name, column in columns.items():
        if known and column not in known:
            return no_column(name, column, known, "slices" if name == column else None)
    return None


def too_many_unreadable(first: Document, unreadable: int, rows: int, limit: float) -> str | None:
    """What to tell of rows of which more than the limit, a share, cannot be read; or None. Pure."""
    if unreadable <= limit * rows:
        return None
    if unreadable == rows:
        remedy = "the first is told; mend them, or set how they are read (corpora.sources)"
    else:
        limited = f"over corpora.clean.max_unreadable = {limit:g}"
        remedy = f"{limited}; mend them, or raise it to drop them"
    return f"{first.where}: {first.problem} (unreadable: {unreadable:,} of {rows:,} rows, {remedy})"


def every_text(path: str, key: str) -> Iterator[str]:
    """All texts of an evaluation set's files: of rows with columns, each column's, and those in
    lists and objects. Raises UserError for a row that cannot be read, since what is like it could
    not be found."""
    source = Source(path=path)
    for file in found_files(source, key).files:
        for where, columns, problem, _ in _rows(source, Part(file), {}):
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


def _rows(source: Source, part: Part, columns: Wanted, is_whole: bool = False) -> Rows:
    """The rows of a part with the wanted columns, if not more; all columns if `is_whole`."""
    if not source.tagged:
        return _rows_of_file(source, part, columns, is_whole)
    written = {role: column for role, column in columns.items() if column not in MADE_OF_TAGGED}
    return tagged(_rows_of_file(source, part, written, is_whole), source.text_column)


def _rows_of_file(source: Source, part: Part, columns: Wanted, is_whole: bool) -> Rows:
    file, begin, end = part.file, part.begin, part.end
    if file is None:
        assert source.dataset is not None
        split = source.dataset_split
        yield from huggingface(source.dataset, split, columns, begin, end, part.commit, is_whole)
    elif archive_of(file) is not None:
        for member in members(file, source.format, begin, end):
            name = f"{file}/{member.name}"
            with reading_archive(file), decompressed(member.open(), member.name) as stream:
                kind = format_of(member.name, source.format)
                yield from _of_content(source, kind, name, stream, columns, is_whole=is_whole)
    elif (kind := format_of(file, source.format)) == "parquet":
        yield from parquet(file, columns, begin, end, is_whole)
    else:
        with reading(file), open_content(file) as stream:
            is_sized = is_whole and compression_of(file) is None
            size_bytes = stream.raw.size() if is_sized else None  # type: ignore[attr-defined]
            range_ = begin, end, is_whole, size_bytes
            yield from _of_content(source, kind, file, stream, columns, *range_)


def _of_content(
    source: Source,
    kind: str,
    name: str,
    stream: io.BufferedReader,
    columns: Wanted,
    begin: int = 0,
    end: int | None = None,
    is_whole: bool = False,
    size_bytes: int | None = None,
) -> Rows:
    """The rows of a file of lines, of a JSON array or of YAML, in any encoding. Where the size of
    the stream is given, those of lines in UTF-8 come with their shares."""
    if begin:
        stream.seek(begin - 1)
    content, undecodable, head = encodings.as_utf8(stream, source.encoding, is_whole=not begin)
    if encodings.has_many_zeros(head):
        raise UserError(f"{name}: zeros among the text; {encodings.advice(head)}")
    if kind == "jsonl" and not begin and is_array(head):
        yield from array(name, content, undecodable)
        return
    if kind == "yaml":
        yield from yaml(name, content, undecodable)
        return
    lines = Lines(numbered(content, name, begin, end), undecodable)
    rows = _of_lines(source, kind, name, lines, columns, is_whole)
    if size_bytes is not None and content is stream:
        rows = _with_shares(rows, stream, begin, size_bytes if end is None else end)
    yield from rows


def _of_lines(
    source: Source, kind: str, name: str, lines: Lines, columns: Wanted, is_whole: bool
) -> Rows:
    match kind:
        case "csv":
            return delimited(name, lines, columns, source.delimiter, source.wanted, is_whole)
        case "jsonl":
            return jsonl(name, lines, columns)
        case "conll":
            return conll(name, lines, columns)
        case _:
            return text(name, lines, columns)


def _with_shares(rows: Rows, stream: io.BufferedReader, begin: int, end: int) -> Rows:
    """By the bytes of a range that are read; the last line may reach beyond it."""
    for row in rows:
        yield row._replace(share=min(1.0, (stream.tell() - begin) / (end - begin)))


def _document(source: Source, wanted: Wanted, columns: Mapping[str, Any], where: str) -> Document:
    slices = {name: _slice(columns.get(wanted[name])) for name in source.slices}
    roles = [role for role in wanted if role not in slices]
    values: dict[str, Any] = {role: _value(columns, role, wanted[role]) for role in roles}
    for value in values.values():
        if isinstance(value, Problem):
            return Document(None, None, where, value)
    text, label = values.pop(TEXT, ""), values.pop(LABEL, source.label)
    is_empty = "" in label if isinstance(label, tuple) else label == ""
    if is_empty and "" not in (source.label_map or {}):
        problem = Problem(f"no label in column {wanted[LABEL]!r}")
        return Document(None, None, where, problem)
    group = values.pop(GROUP, None)
    return Document(text, label, where, group=group, values=values, slices=slices)


def _slice(value: Any) -> str | None:
    """As text; None for what is no kind of row."""
    if isinstance(value, Problem) or value != value:
        return None
    name = label_of(value)
    return name if name and len(name) <= SLICE_CHARACTERS else None


def _value(columns: Mapping[str, Any], role: str, column: str) -> Any:
    """What a column has for a role: a text, the labels, a group's name, or what a task reads of
    it; a Problem if it has none."""
    if column not in columns:
        return no_column(role, column, columns)
    value = columns[column]
    if isinstance(value, (str, Problem)):
        return value
    if value is None or value != value:
        return None if role == GROUP else Problem(f"no {role} in column {column!r}")
    if role not in (TEXT, LABEL, GROUP):
        return value
    if role == LABEL and isinstance(value, list):
        labels = [label_of(one) for one in value]
        if None not in labels:
            return tuple(labels)
        value = value[labels.index(None)]
    name = None if role == TEXT else label_of(value)
    if name is None:
        what = "text" if role == TEXT else "a label"
        return Problem(f"column {column!r} is {type(value).__name__}, not {what}")
    return name
