"""Which files a source has, the parts they are read in, and hashes of what they hold."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid
from cluster.store.bases import GGUF, PACKAGE, base_path, file_hash
from cluster.store.packages import package_folder
from trainers.corpora.reading import globs, path_hints
from trainers.corpora.reading.config import Source, knob
from trainers.corpora.reading.formats import (
    archive_of,
    archives,
    compression_of,
    encodings,
    format_of,
    huggingface,
)
from trainers.corpora.reading.formats.array import is_array
from trainers.corpora.reading.formats.parquet import row_group_bytes
from trainers.corpora.reading.formats.streams import filesystem, open_raw, reading

PART_BYTES = 64 << 20
"""What one task reads, of uncompressed bytes: seconds of work, which a lost worker costs again, and
few enough tasks to keep account of where corpora are terabytes."""
PART_ROWS = 50_000
"""The same of a dataset on disk, whose rows have no known size."""
LISTING_THREADS = 16
"""Files looked at at once: an object store answers each in tens of milliseconds."""
READ_WHOLE = ("csv", "conll", "yaml")
"""Formats whose rows span lines, so that none is found from any place of a file."""
WHOLE_BYTES = 256 << 20
HEAD_BYTES = 1 << 12


@dataclasses.dataclass(frozen=True)
class Part:
    """What one task reads: a file, or what begins in a range of it."""

    file: str | None
    """None for a dataset."""
    begin: int = 0
    end: int | None = None
    """In bytes of text and JSONL, row groups of Parquet, rows of a dataset on disk, files of one on
    the hub, numbers of members in a zip, offsets of members in a tar. None is the end."""
    commit: str | None = None
    """Of a dataset on the hub."""


def found_files(source: Source, key: str) -> globs.Found:
    """The files of a source, and what was passed over. Raises UserError where there are none."""
    try:
        return located(source)
    except Invalid as error:
        raise UserError(f"{knob(key, error.key)}: {error}") from error


def located(source: Source) -> globs.Found:
    """As `found_files`. Raises Invalid, which names the key of the source that is at fault."""
    assert source.path is not None
    scheme, is_uri, rest = source.path.partition("://")
    folder = Path.cwd() if source.package is None else _package_folder(source.package)
    if not is_uri:
        return _on_disk(source.path, folder, os.path.expanduser(source.path))
    if scheme != "file":
        look = functools.partial(_in_store, scheme)
    elif rest.startswith("/"):
        look = functools.partial(_on_disk, source.path, folder)
    else:
        raise Invalid("path", f"{source.path!r}: a file's URI has three slashes: file:///data")
    # Its names may be percent-encoded, as the standard has it, or stand as they are.
    decoded = unquote(rest, errors="surrogateescape")
    if decoded != rest:
        with contextlib.suppress(Invalid):
            return look(decoded)
    return look(rest)


def is_remote(source: Source) -> bool:
    """Whether its files are in an object store; `file://` is this machine's disk."""
    scheme, is_uri, _ = (source.path or "").partition("://")
    return bool(is_uri) and scheme != "file"


def would_find(source: Source, file: str) -> bool:
    """Whether a file, given by its whole path or URI, is one of the source's as soon as it is
    there."""
    if source.path is None:
        return False
    scheme, _, rest = source.path.rpartition("://")
    of_file, _, place = file.rpartition("://")
    # As in `located`.
    patterns = {rest, unquote(rest, errors="surrogateescape")}
    if is_remote(source):
        return scheme == of_file and any(
            globs.would_find("/", one, f"/{place}", is_in_store=True) for one in patterns
        )
    folder = Path.cwd() if source.package is None else _package_folder(source.package)
    if not scheme:
        patterns = {os.path.expanduser(rest)}
    return of_file in ("", "file") and any(
        globs.would_find("/" if one.startswith("/") else str(folder), one, place)
        for one in patterns
    )


def parts(
    source: Source,
    key: str,
    part_bytes: int = PART_BYTES,
    part_rows: int = PART_ROWS,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Part]:
    """What `readers.read` takes, in the order of the files and of what they hold. Calls `tell` with
    a line for each reason for which a name was passed over."""
    if source.dataset is not None:
        if not huggingface.is_saved(source.dataset):
            commit = huggingface.commit(source.dataset, source.revision)
            count = huggingface.hub_files(source.dataset, source.dataset_split, commit)
            return [Part(None, number, number + 1, commit) for number in range(count)]
        count = huggingface.saved_rows(source.dataset, source.dataset_split)
        return [Part(None, *rows) for rows in _ranges(count, part_rows)]
    found = found_files(source, key)
    for line in found.skipped:
        tell(f"{key}: {line}")
    with concurrent.futures.ThreadPoolExecutor(LISTING_THREADS) as pool:
        cut = pool.map(lambda file: _cut(source, file, part_bytes), found.files)
        return list(itertools.chain.from_iterable(cut))


def _cut(source: Source, file: str, part_bytes: int) -> list[Part]:
    if archive_of(file) is not None:
        if compression_of(file) is not None:  # a tar that can only be read from its beginning
            return [Part(file)]
        members = archives.members(file, source.format)
        return _together(file, ((one.place, one.size_bytes) for one in members), part_bytes)
    kind = format_of(file, source.format)
    if kind == "parquet":
        return _together(file, enumerate(row_group_bytes(file)), part_bytes)
    if kind in READ_WHOLE or compression_of(file) is not None:
        return [Part(file)]
    size_bytes = _file_info(file).size
    if size_bytes <= part_bytes or _is_read_from_its_beginning(file, kind, source.encoding):
        return [Part(file)]
    return [Part(file, *range_) for range_ in _ranges(size_bytes, part_bytes)]


def _is_read_from_its_beginning(file: str, kind: str, encoding: str | None) -> bool:
    """Whether lines cannot be found from any place of a file: it is not in UTF-8, or a JSON
    array."""
    if encoding is not None and not encodings.is_utf8(encoding):
        return True
    with reading(file), open_raw(file) as stream:
        head = stream.read_at(HEAD_BYTES, 0)
    return encodings.marked(head) is not None or (kind == "jsonl" and is_array(head))


def _ranges(total: int, limit: int) -> list[tuple[int, int]]:
    """Ranges of equal size, none over the limit: a small rest would have few rows, and one that
    cannot be read would be a large share of them."""
    count = max(1, -(-total // limit))
    return list(itertools.pairwise(total * number // count for number in range(count + 1)))


def _together(file: str, sized: Iterable[tuple[int, int]], limit: int) -> list[Part]:
    """Parts of what cannot be cut, given by place and size: each ends when it is over the limit."""
    begins, size = [0], 0
    for place, size_bytes in sized:
        if size >= limit:
            begins.append(place)
            size = 0
        size += size_bytes
    return [Part(file, begin, end) for begin, end in zip(begins, [*begins[1:], None], strict=True)]


@functools.lru_cache(maxsize=256)
def content_hash(source: Source, key: str) -> str:
    """Hash of what the source holds now. Files over 256 MiB count by size, time and both ends."""
    return _hash(source, key, _file_hash)


def state_hash(source: Source, key: str) -> str:
    """Hash of names, sizes and times of what the source holds now: of data that are read once."""
    return _hash(source, key, _file_state)


def _hash(source: Source, key: str, of_file: Callable[[str], bytes]) -> str:
    """Over all files of a source, or of what a dataset says of itself."""
    digest = hashlib.sha256()
    if source.dataset is not None:
        digest.update(_dataset_state(source.dataset).encode())
        return digest.hexdigest()[:16]
    with concurrent.futures.ThreadPoolExecutor(LISTING_THREADS) as pool:
        for known in pool.map(of_file, found_files(source, key).files):
            digest.update(known)
    return digest.hexdigest()[:16]


def missing_folders(
    named: Mapping[str, str | None], needed: str | None = None
) -> Iterator[Conflict]:
    """Of folders or hub ids by their keys: paths where there is nothing, and folders without the
    file that is needed."""
    for key, name in named.items():
        if name is None:
            continue
        try:
            folder = base_path(name)
        except UserError as error:
            yield Conflict(key, str(error))
            continue
        if folder.suffix == GGUF:
            yield from _faults_of_gguf(key, name, folder)
        elif not folder.is_dir():
            if name.startswith(("/", ".", "~", PACKAGE)):
                yield Conflict(key, f"no such folder {name!r}")
        elif needed is not None and not (folder / needed).is_file():
            yield Conflict(
                key,
                f"the folder {name!r} has no {needed}; if a recipe's model of this name is meant, "
                "give its id (model/...)",
            )


def _faults_of_gguf(key: str, name: str, file: Path) -> Iterator[Conflict]:
    if not file.is_file():
        yield Conflict(key, f"no such file {name!r}")
    elif importlib.util.find_spec("gguf") is None:
        yield Conflict(
            key, f"{name!r} needs what reads GGUF; pip install 'raymill[gguf]' on every node"
        )


def base_hash(base: str, key: str, files: str = "*") -> str:
    """Hash of a GGUF file, or of a local folder's files of this glob; a hub id stands for itself.
    Raises UserError for a path where there is nothing."""
    for conflict in missing_folders({key: base}):
        raise UserError(f"{key}: {conflict.message}")
    folder = base_path(base)
    if folder.suffix == GGUF:
        return file_hash(folder)[:16]
    if not folder.is_dir():
        return base
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(files)):
        if path.is_file():
            digest.update(_file_hash(str(path)))
    return digest.hexdigest()[:16]


def _file_info(file: str) -> pafs.FileInfo:
    fs, path = filesystem(file)
    return fs.get_file_info(path)


def _file_state(file: str) -> bytes:
    info = _file_info(file)
    return f"{info.path}:{info.size}:{info.mtime_ns}".encode()


def _file_hash(file: str) -> bytes:
    info = _file_info(file)
    digest = hashlib.sha256(f"{Path(file).name}:{info.size}".encode())
    with reading(file), open_raw(file) as stream:
        if info.size <= WHOLE_BYTES:
            while piece := stream.read(1 << 20):
                digest.update(piece)
        else:
            digest.update(str(info.mtime_ns).encode())
            digest.update(stream.read(1 << 20))
            digest.update(stream.read_at(1 << 20, info.size - (1 << 20)))
    return digest.digest()


def _package_folder(package: str) -> Path:
    folder = package_folder(package)
    if folder is None:
        raise Invalid("package", f"{package!r} is not installed; pip install {package}")
    return folder


def _on_disk(as_written: str, folder: Path, path: str) -> globs.Found:
    """The files of a path or glob on this machine; a relative one is looked for in the folder.
    `as_written` is what the recipe says. Raises Invalid."""
    whole = folder / path
    if whole.is_file():  # whatever marks are in its name
        return globs.Found([str(whole)], [])
    if not globs.is_glob(path):
        raise Invalid("path", path_hints.explain(as_written, folder, whole))
    try:
        found = globs.on_disk("/" if path.startswith("/") else str(folder), path)
    except ValueError as error:
        raise Invalid("path", f"{as_written!r}: {error}") from error
    if not found.files:
        raise Invalid("path", "; ".join([path_hints.explain(as_written, folder), *found.skipped]))
    return found


def _in_store(scheme: str, path: str) -> globs.Found:
    """The same in an object store. Raises Invalid."""
    uri, names = f"{scheme}://{path}", path.split("/")
    fixed = "/".join(itertools.takewhile(lambda name: not globs.is_glob(name), names))
    try:
        fs, whole = filesystem(uri)
        if fs.get_file_info(whole).type == pafs.FileType.File:
            return globs.Found([uri], [])
        found, root = globs.Found([], []), filesystem(f"{scheme}://{fixed}")[1]
        if globs.is_glob(path):
            found = globs.in_store(fs, root, path[len(fixed) :])
    except (OSError, pa.ArrowInvalid) as error:
        raise Invalid("path", f"cannot read {uri!r}: {error}") from error
    except ValueError as error:
        raise Invalid("path", f"{uri!r}: {error}") from error
    if not found.files:
        raise Invalid("path", "; ".join([f"no object matches {uri!r}", *found.skipped]))
    return found._replace(files=[f"{scheme}://{fixed}{file[len(root) :]}" for file in found.files])


def _dataset_state(dataset: str) -> str:
    """What `datasets` wrote of the content of a saved dataset, or of its splits."""
    folder = Path(dataset).expanduser()
    states = [*folder.glob("state.json"), *sorted(folder.glob("*/state.json"))]
    return "".join(path.read_text(encoding="utf-8") for path in states) or dataset
