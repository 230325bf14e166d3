"""Files, wherever they are, as streams of bytes."""

import contextlib
import errno
import io
from collections.abc import Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import InfrastructureError, RaymillError, UserError
from trainers.corpora.reading.formats import compression_of

BUFFER_BYTES = 4 << 20
"""What is read at once: of an object store, every read is a request."""


def filesystem(file: str) -> tuple[pafs.FileSystem, str]:
    """Of a file of this machine, or in a store: `SCHEME://BUCKET/NAMES`, with the names as they
    are, not percent-encoded."""
    scheme, is_uri, rest = file.partition("://")
    if not is_uri:
        return pafs.LocalFileSystem(), file
    bucket, slash, path = rest.partition("/")
    if not scheme.startswith(NOT_DECODED):
        path = quote(path, errors="surrogateescape")
    return pafs.FileSystem.from_uri(f"{scheme}://{bucket}{slash}{path}")


NOT_DECODED = ("hf", "fsspec+")
"""Schemes that pyarrow leaves to fsspec, which takes the names as they are."""


OF_THE_USER = ("ACCESS_DENIED", "NO_SUCH", "RESOURCE_NOT_FOUND", "INVALID_ACCESS_KEY")
"""What an object store answers to a mistake in the recipe; the rest is its own or the network's."""


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """What goes wrong inside is told of the file."""
    try:
        yield
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as error:
        raise unreadable(file, error) from error


def unreadable(file: str, error: Exception) -> RaymillError:
    """What to tell of a file, by who can mend it. Pure."""
    message, number = str(error), getattr(error, "errno", None)
    is_remote = "AWS Error" in message and not any(kind in message for kind in OF_THE_USER)
    if is_remote or number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM):
        return InfrastructureError(f"{file}: {error}")
    # With a number, the system says why; without, it is about what the file holds.
    hint = "; is it damaged or cut off?" if number is None else ""
    return UserError(f"{file}: cannot be read: {error}{hint}")


def is_of_content(error: UserError) -> bool:
    """Whether what `reading` told of a file lies in the bytes that it has, and so comes again; not
    a file that went away, or a credential that ran out. Pure."""
    cause = error.__cause__
    if not isinstance(cause, OSError):
        return True
    is_of_access = isinstance(cause, FileNotFoundError | PermissionError)
    return cause.errno is None and not is_of_access and "AWS Error" not in str(cause)


def open_raw(file: str) -> pa.NativeFile:
    """The file's own bytes, to be read at any place."""
    fs, path = filesystem(file)
    return fs.open_input_file(path)


def open_content(file: str) -> io.BufferedReader:
    """A file's content: seekable if it is not compressed."""
    codec = compression_of(file)
    if codec is None:
        return io.BufferedReader(open_raw(file), BUFFER_BYTES)
    fs, path = filesystem(file)
    if not fs.get_file_info(path).size:  # a decompressor takes it for a file without content
        raise EOFError("no bytes")
    stream = fs.open_input_stream(path, compression=codec, buffer_size=BUFFER_BYTES)
    return io.BufferedReader(stream, BUFFER_BYTES)


def decompressed(stream: io.BufferedIOBase, name: str) -> io.BufferedReader:
    """A member of an archive, which may be compressed once more."""
    codec = compression_of(name)
    if codec is None:
        return io.BufferedReader(stream, BUFFER_BYTES)  # type: ignore[arg-type]
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, "r"), codec))
