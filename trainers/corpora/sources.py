"""Read documents from where they are: text, JSONL, CSV, Parquet, Hugging Face datasets.

Everything is streamed. A document that is not UTF-8 comes as None and is counted by the caller.
"""

import csv
import dataclasses
import fnmatch
import functools
import hashlib
import importlib.util
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.errors import UserError
from trainers.corpora.config import Corpora, Source, lexicons

COMPRESSIONS = (".gz", ".zst", ".bz2")
FORMATS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
WHOLE_BYTES = 256 << 20
MAX_FIELD_CHARACTERS = 1 << 30
SURROGATE = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are not UTF-8, and what JSON can escape but no file can hold."""


@dataclasses.dataclass(frozen=True)
class Document:
    text: str | None
    """None if its bytes are not UTF-8."""
    label: str | None
    where: str
    """`file:line`, for errors."""
    group: str | None = None


Rows = Iterator[tuple[dict[str, Any] | None, str]]
"""Columns of each row, or None for one that is not UTF-8, and where it stands."""


def files(source: Source, key: str) -> list[str]:
    """The files of a source, sorted. Raises UserError where there are none."""
    assert source.path is not None
    if not Path(source.path).name:
        raise UserError(f"{key}.path: {source.path!r} names no file")
    if "://" in source.path:
        return _remote_files(source.path, key)
    folder = Path.cwd() if source.package is None else _package_folder(source.package, key)
    pattern = os.path.expanduser(source.path)
    found = [Path(pattern)] if os.path.isabs(pattern) else sorted(folder.glob(pattern))
    if os.path.isabs(pattern) and any(mark in pattern for mark in "*?["):
        anchor = Path(pattern).anchor
        found = sorted(Path(anchor).glob(str(Path(pattern).relative_to(anchor))))
    found = [path for path in found if path.is_file()]
    if not found:
        raise UserError(f"{key}.path: no file matches {source.path!r} (looked in {folder})")
    return [str(path) for path in found]


def refuse_absent(corpora: Corpora | None) -> None:
    """Raises UserError for a local file that is not there."""
    for key, source in _every_source(corpora):
        if source.path is not None and "://" not in source.path:
            files(source, key)


def refuse_relative(corpora: Corpora | None) -> None:
    """Raises UserError for a path that another machine cannot know."""
    for key, source in _every_source(corpora):
        path = source.path or ""
        if path and source.package is None and "://" not in path and not os.path.isabs(path):
            raise UserError(
                f"{key}.path: {path!r} is relative to this folder, which the cluster does not "
                "see; give a URI, or a path that every node has"
            )


def _every_source(corpora: Corpora | None) -> Iterator[tuple[str, Source]]:
    """Sources and files of a recipe with their keys."""
    if corpora is None:
        return
    for name, source in corpora.sources.items():
        yield f"corpora.sources.{name}", source
    for path in corpora.decontaminate.files if corpora.decontaminate else ():
        yield "corpora.decontaminate.files", Source(path=path)
    yield from lexicons(corpora.sources)


def read(source: Source, file: str | None) -> Iterator[Document]:
    """The documents of one file of a source, or of its dataset if `file` is None."""
    if file is None:
        documents = _dataset(source)
    elif _format(source, file) == "text":
        documents = _text(source, file)
    else:
        rows = ROWS[_format(source, file)](file)
        documents = (
            Document(None, None, where) if row is None else _from_row(source, row, where)
            for row, where in rows
        )
    if not source.tagged:
        yield from documents
        return
    for document in documents:
        text = document.text and "".join(word.rpartition("/")[0] for word in document.text.split())
        yield dataclasses.replace(document, text=text)


def every_text(path: str, key: str) -> Iterator[str]:
    """All texts of an evaluation set's files: of rows with columns, each column's."""
    source = Source(path=path)
    for file in files(source, key):
        if _format(source, file) == "text":
            yield from (document.text for document in _text(source, file) if document.text)
        else:
            for row, _ in ROWS[_format(source, file)](file):
                yield from (value for value in (row or {}).values() if isinstance(value, str))


def parts(source: Source, key: str) -> list[str | None]:
    """What `read` takes: the files of a source, or None for a dataset."""
    return [None] if source.dataset else list(files(source, key))


@functools.lru_cache(maxsize=256)
def content_hash(source: Source, key: str) -> str:
    """Hash of what the source holds now. Files over 256 MiB count by size, time and both ends."""
    digest = hashlib.sha256()
    if source.dataset is not None:
        digest.update(_dataset_state(source.dataset).encode())
        return digest.hexdigest()[:16]
    for file in files(source, key):
        _count_in(digest, file)
    return digest.hexdigest()[:16]


def base_hash(base: str, key: str) -> str:
    """Hash of a local folder's files; a hub id stands for itself. Raises UserError for a path where
    there is nothing."""
    folder = Path(base).expanduser()
    if not folder.is_dir():
        if base.startswith(("/", ".", "~")):
            raise UserError(f"{key}: no such folder {base!r}")
        return base
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _count_in(digest, str(path))
    return digest.hexdigest()[:16]


def _count_in(digest: Any, file: str) -> None:
    fs, path = _open(file)
    info = fs.get_file_info(path)
    digest.update(f"{Path(file).name}:{info.size}".encode())
    try:
        opened = fs.open_input_file(path)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    with opened as stream:
        if info.size <= WHOLE_BYTES:
            while piece := stream.read(1 << 20):
                digest.update(piece)
        else:
            digest.update(str(info.mtime_ns).encode())
            digest.update(stream.read(1 << 20))
            digest.update(stream.read_at(1 << 20, info.size - (1 << 20)))


def _package_folder(package: str, key: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # absent, or no name of a package at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{key}.package: {package!r} is not installed; pip install {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def _remote_files(uri: str, key: str) -> list[str]:
    scheme, _, rest = uri.partition("://")
    head = rest.split("*", 1)[0]
    base = head.rpartition("/")[0] if "*" in rest else rest
    try:
        fs, path = _open(f"{scheme}://{base}")
    except pa.ArrowInvalid as error:
        raise UserError(f"{key}.path: cannot read {uri!r}: {error}") from error
    if "*" not in rest:
        infos = [fs.get_file_info(path)]
    else:
        selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
        infos = [
            info
            for info in fs.get_file_info(selector)
            if fnmatch.fnmatch(info.path, path + rest[len(base) :])
        ]
    found = sorted(
        f"{scheme}://{base}{info.path[len(path) :]}"
        for info in infos
        if info.type == pafs.FileType.File
    )
    if not found:
        raise UserError(f"{key}.path: no object matches {uri!r}")
    return found


def _open(file: str) -> tuple[pafs.FileSystem, str]:
    return pafs.FileSystem.from_uri(file) if "://" in file else (pafs.LocalFileSystem(), file)


def _format(source: Source, file: str) -> str:
    if source.format is not None:
        return source.format
    name = file.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    ending = Path(name).suffix
    if ending not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(
            f"{file}: unknown ending {ending!r} (known: {known}); set the source's `format`"
        )
    return FORMATS[ending]


def _lines(file: str) -> Iterator[tuple[int, bytes]]:
    fs, path = _open(file)
    with fs.open_input_stream(path, compression="detect", buffer_size=1 << 20) as stream:
        try:
            yield from enumerate(io.BufferedReader(stream), start=1)
        except (OSError, EOFError) as error:
            raise UserError(f"{file}: cannot be read to its end: {error}") from error


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8-sig")  # a byte-order mark is no text
    except UnicodeDecodeError:
        return None


def _text(source: Source, file: str) -> Iterator[Document]:
    for number, raw in _lines(file):
        if raw.strip():
            yield Document(_decoded(raw), source.label, f"{file}:{number}")


def _jsonl(file: str) -> Rows:
    for number, raw in _lines(file):
        where = f"{file}:{number}"
        line = _decoded(raw)
        if line is None:
            yield None, where
        elif line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                found = type(row).__name__
                raise UserError(f"{where}: expected an object with columns, found {found}")
            yield row, where


def _csv(file: str) -> Rows:
    def text_lines() -> Iterator[str]:
        for _, raw in _lines(file):
            # A byte that is not UTF-8 marks its row, found again below.
            yield raw.decode("utf-8-sig", errors="surrogateescape")

    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.DictReader(text_lines())
    try:
        for row in reader:
            yield row, f"{file}:{reader.line_num}"
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: not CSV: {error}") from error


def _parquet(file: str) -> Rows:
    fs, path = _open(file)
    try:
        table = pq.ParquetFile(fs.open_input_file(path))
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: not a Parquet file: {error}") from error
    columns = table.schema_arrow
    texts = [name for name in columns.names if _is_text(columns.field(name).type)]
    # As bytes, since Parquet does not vouch for UTF-8.
    raw = pa.schema([(c.name, pa.binary() if c.name in texts else c.type) for c in columns])
    row_number = 0
    for batch in table.iter_batches(batch_size=1024):
        for row in batch.cast(raw).to_pylist():
            row_number += 1
            for name in texts:
                if row[name] is not None:
                    row[name] = row[name].decode("utf-8", "surrogateescape")
            yield row, f"{file}:row {row_number}"


ROWS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
"""Readers of the formats that have columns."""


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _dataset(source: Source) -> Iterator[Document]:
    import datasets

    assert source.dataset is not None
    folder, split = Path(source.dataset).expanduser(), source.dataset_split
    try:
        if folder.is_dir():
            loaded: Any = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.DatasetDict):
                loaded = loaded[split]
        else:
            loaded = datasets.load_dataset(source.dataset, split=split, streaming=True)
    except KeyError as error:
        raise UserError(f"dataset_split: {source.dataset!r} has no split {split!r}") from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"dataset: cannot load {source.dataset!r}: {reason}") from error
    names = getattr((loaded.features or {}).get(source.label_column), "names", None)
    for number, row in enumerate(loaded):
        if names and isinstance(row[source.label_column], int):
            label = row[source.label_column]
            row[source.label_column] = names[label] if label >= 0 else None
        yield _from_row(source, row, f"{source.dataset}:row {number}")


def _dataset_state(dataset: str) -> str:
    state = Path(dataset).expanduser() / "state.json"
    if state.is_file():
        return state.read_text(encoding="utf-8")
    splits = Path(dataset).expanduser() / "dataset_dict.json"
    if splits.is_file():
        states = sorted(splits.parent.glob("*/state.json"))
        return "".join(path.read_text(encoding="utf-8") for path in states)
    return dataset


def _from_row(source: Source, row: dict[str, Any], where: str) -> Document:
    for key in ("text", "label_column", "group_column"):
        column = getattr(source, key)
        if column is not None and column not in row:
            columns = ", ".join(map(str, row))
            raise UserError(f"{where}: no column {column!r} (set as `{key}`); columns: {columns}")
    text = row[source.text]
    if not isinstance(text, str):
        raise UserError(f"{where}: column {source.text!r} is {type(text).__name__}, not text")
    label = source.label
    if source.label_column is not None:
        if row[source.label_column] is None:
            raise UserError(f"{where}: no label in column {source.label_column!r}")
        label = str(row[source.label_column])
    group = None
    if source.group_column is not None and row[source.group_column] is not None:
        group = str(row[source.group_column])
    is_text = not SURROGATE.search(text + (label or "") + (group or ""))
    return Document(text if is_text else None, label, where, group)
