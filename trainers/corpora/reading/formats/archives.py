"""Members of .zip and .tar archives, as streams: nothing is extracted to disk."""

import contextlib
import functools
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

from cluster.errors import UserError
from trainers.corpora.reading.formats import archive_of, compression_of, is_hidden, known_format
from trainers.corpora.reading.formats.streams import open_content, reading, unreadable


class Member(NamedTuple):
    name: str
    size_bytes: int
    place: int
    """What a range of members is given by: a number in a zip, the header's offset in a tar."""
    open: Callable[[], Any]


def members(
    file: str, format: str | None, begin: int = 0, end: int | None = None
) -> Iterator[Member]:
    """The members to read, of those whose place lies in a range: all with a known ending, or all
    if `format` says what they are. Each is to be read before the next is asked for."""
    walk = _zip if archive_of(file) == "zip" else _tar
    is_empty = True
    with reading_archive(file):
        for member in walk(file, begin, end):
            kind = format or known_format(member.name)
            if kind is None or any(map(is_hidden, PurePosixPath(member.name).parts)):
                continue
            if kind == "parquet":
                raise UserError(
                    f"{file}: {member.name!r} is Parquet, which is not read inside an archive; "
                    "unpack it"
                )
            is_empty = False
            yield member
    if is_empty:
        raise UserError(
            f"{file}: no member has a known ending (such as .txt or .jsonl); "
            "set the source's `format` if all are of one"
        )


@contextlib.contextmanager
def reading_archive(file: str) -> Iterator[None]:
    """As `reading`, also for what is wrong with an archive. RuntimeError is what zipfile raises for
    one that is encrypted."""
    try:
        with reading(file):
            yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, RuntimeError) as error:
        raise unreadable(file, error) from error


def _zip(file: str, begin: int, end: int | None) -> Iterator[Member]:
    with open_content(file) as stream, zipfile.ZipFile(stream) as archive:
        for place, info in list(enumerate(archive.infolist()))[begin:end]:
            if not info.is_dir():
                opened = functools.partial(archive.open, info)
                yield Member(info.filename, info.file_size, place, opened)


def _tar(file: str, begin: int, end: int | None) -> Iterator[Member]:
    is_compressed = compression_of(file) is not None
    with open_content(file) as stream:
        if begin:
            stream.seek(begin)
        mode: Any = "r|" if is_compressed else "r:"
        # A name that is not UTF-8 can still be told.
        named: Any = {"encoding": "utf-8", "errors": "backslashreplace"}
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header, **named) as archive:
            while (info := archive.next()) is not None:
                # It remembers all that it met, to find them by name.
                archive.members.clear()  # type: ignore[attr-defined]
                if end is not None and info.offset >= end:
                    return
                if info.isfile():
                    opened = functools.partial(archive.extractfile, info)
                    yield Member(info.name, info.size, info.offset, opened)


class _Header(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """As of tarfile, which takes a broken header, or none at all, for the end."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
