"""Members of .zip and .tar archives, as streams: nothing is extracted to disk.

An archive with a member that would write outside its folder, a link or a device is refused, though
nothing is written: it was made to harm, or is not what it seems.
"""

import contextlib
import functools
import io
import stat
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
    format: str
    size_bytes: int
    place: int
    """What a range of members is given by: a number in a zip, the header's offset in a tar."""
    open: Callable[[], io.BufferedIOBase]


def members(
    file: str, format: str | None, begin: int = 0, end: int | None = None
) -> Iterator[Member]:
    """The members to read, of those whose place lies in a range: all with a known ending, or all
    if `format` says what they are. Each is to be read before the next is asked for."""
    walk = _zip if archive_of(file) == "zip" else _tar
    found = False
    with reading_archive(file):
        for member in walk(file, format, begin, end):
            if member.format == "parquet":
                raise UserError(
                    f"{file}: {member.name!r} is Parquet, which is not read inside an archive; "
                    "unpack it"
                )
            found = True
            yield member
    if not found:
        raise UserError(
            f"{file}: no member has a known ending (such as .txt or .jsonl); "
            "set the source's `format` if all are of one"
        )


@contextlib.contextmanager
def reading_archive(file: str) -> Iterator[None]:
    """As `reading`, also for what is wrong with an archive."""
    try:
        with reading(file):
            yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, NotImplementedError) as error:
        raise unreadable(file, error) from error


def _zip(file: str, format: str | None, begin: int, end: int | None) -> Iterator[Member]:
    with open_content(file) as stream, zipfile.ZipFile(stream) as archive:
        for place, info in enumerate(archive.infolist()[:end]):
            kind = stat.S_IFMT(info.external_attr >> 16)
            _refuse_unsafe(file, info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            found = _format(info.filename, format)
            if place < begin or info.filename.endswith("/") or found is None:
                continue
            if info.flag_bits & 1:
                raise UserError(f"{file}: {info.filename!r} is encrypted; unpack it")
            # These two are decompressed as far as is asked, whatever a bomb holds: reading takes
            # time, not memory. Python's bz2 and LZMA members give all that a block holds at once.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(
                    f"{file}: {info.filename!r} is neither stored nor deflated; pack it again"
                )
            opened = functools.partial(_of_zip, archive, info)
            yield Member(info.filename, found, info.file_size, place, opened)


def _tar(file: str, format: str | None, begin: int, end: int | None) -> Iterator[Member]:
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
                _refuse_unsafe(file, info.name, info.isfile() or info.isdir())
                found = _format(info.name, format)
                if info.isfile() and found is not None:
                    opened = functools.partial(_of_tar, archive, info)
                    yield Member(info.name, found, info.size, info.offset, opened)


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> io.BufferedIOBase:
    content = archive.open(info)
    assert isinstance(content, io.BufferedIOBase)
    return content


def _of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> io.BufferedIOBase:
    content = archive.extractfile(info)
    assert isinstance(content, io.BufferedIOBase), "asked of regular files only"
    return content


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


def _format(name: str, given: str | None) -> str | None:
    """None for a member to pass over; so are hidden files."""
    if any(map(is_hidden, PurePosixPath(name).parts)):
        return None
    return given or known_format(name)


def _refuse_unsafe(file: str, name: str, is_plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or path.as_posix()[1:2] == ":"
    if outside or not is_plain:
        what = "leads outside the archive" if outside else "is neither a file nor a folder"
        raise UserError(f"{file}: member {name!r} {what}; the archive is not to be trusted")
