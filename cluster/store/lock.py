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
def locked(path: Path, busy: str) -> Iterator[None]:
    """Raises UserError, with the words `busy` while another command holds the lock. Where the file
    system has no locks, nothing is held."""
    try:
        stream = path.open("w")
    except PermissionError as error:
        raise UserError(
            f"{path}: cannot be locked, for another user made it; delete it, let all of you write "
            "it, or name another folder"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(busy) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield
