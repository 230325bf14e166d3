"""One command at a time: locks of files, which end with the process that holds them."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from cluster.errors import UserError

WITHOUT_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)
"""What a file system answers that has no locks, as some of networks."""


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Waits while another process holds the lock; if `busy` is given, raises UserError with these
    words instead. Where the file system has no locks, nothing is held."""
    try:
        stream = path.open("w")
    except PermissionError as error:
        raise UserError(
            f"{path}: cannot be locked, for another user made it; delete it, let all of you write "
            "it, or name another folder"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UserError(busy) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield
