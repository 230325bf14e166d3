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
    ".conll": "conll",
    ".bio": "conll",
    ".bmes": "conll",
    ".iob": "conll",
    ".parquet": "parquet",
    ".yaml": "yaml",
    ".yml": "yaml",
}
ARCHIVES = {".zip": "zip", ".tar": "tar"}
KNOWN = ", ".join([*FORMATS, *ARCHIVES])
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Endings to pyarrow's names of the codecs."""


def compression_of(file: str) -> str | None:
    return COMPRESSIONS.get(endings(file)[1])


def archive_of(file: str) -> str | None:
    """zip, tar or None; a tar may be compressed."""
    return ARCHIVES.get(endings(file)[0])


def known_format(file: str) -> str | None:
    return FORMATS.get(endings(file)[0])


def format_of(file: str, named: str | None) -> str:
    """The format of a file that is no archive: as the recipe has it `named`, or by its ending.
    Raises UserError if that says nothing."""
    kind = named or known_format(file)
    if kind is None:
        raise UserError(
            f"{file}: unknown ending {endings(file)[0]!r} (known: {KNOWN}); set the source's "
            "`format`"
        )
    return kind


def is_hidden(name: str) -> bool:
    """Whether a file or folder called so holds no data: what systems hide, what Spark and Hadoop
    write beside their parts, what macOS adds to archives, and the locks of Office."""
    return name.startswith((".", "_", "~$"))


def endings(file: str) -> tuple[str, str]:
    """The ending that says what a file holds, and that of its compression, or nothing."""
    path = Path(file.lower())
    if path.suffix == ".tgz":
        return ".tar", ".gz"
    if path.suffix in COMPRESSIONS:
        return Path(path.stem).suffix, path.suffix
    return path.suffix, ""
