"""The formats that sources come in, told by a file's ending. Every reader is a stream of rows."""

from pathlib import Path

from cluster.errors import UserError

FORMATS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
}
ARCHIVES = {".zip": "zip", ".tar": "tar"}
KNOWN = ", ".join([*FORMATS, *ARCHIVES])
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Endings to pyarrow's names of the codecs."""


def compression_of(file: str) -> str | None:
    return COMPRESSIONS.get(Path(_in_full(file)).suffix)


def archive_of(file: str) -> str | None:
    """zip, tar or None; a tar may be compressed."""
    return ARCHIVES.get(inner_ending(file))


def known_format(file: str) -> str | None:
    return FORMATS.get(inner_ending(file))


def format_of(file: str, given: str | None) -> str:
    """The format of a file that is no archive. Raises UserError if its ending says nothing."""
    found = given or known_format(file)
    if found is None:
        own = inner_ending(file)
        raise UserError(
            f"{file}: unknown ending {own!r} (known: {KNOWN}); set the source's `format`"
        )
    return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder called so holds no data: what systems hide, what Spark and Hadoop
    write beside their parts, what macOS adds to archives, and the locks of Office."""
    return name.startswith((".", "_", "~$"))


def ending(file: str) -> str:
    """As the file has it, with that of its compression."""
    path = Path(file)
    is_inside = path.suffix.lower() in COMPRESSIONS
    return (Path(path.stem).suffix if is_inside else "") + path.suffix


def inner_ending(file: str) -> str:
    """The ending before that of a compression."""
    path = Path(_in_full(file))
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _in_full(file: str) -> str:
    name = file.lower()
    return f"{name.removesuffix('.tgz')}.tar.gz" if name.endswith(".tgz") else name
