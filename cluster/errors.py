"""What can go wrong, by who can mend it. The class decides the exit status.

    RaymillError
    ├── UserError            2   the user's to mend: arguments, data, resources asked for
    │   ├── RecipeError      2   ... in a recipe: file, line, dotted key, value, remedy
    │   └── Diverged         2   ... in the numbers of a training, which learns nothing any more
    ├── InfrastructureError  3   infrastructure gave out after its retries
    └── GateRefused          4   a model was not good enough to promote

A message names the knob, its value and the remedy. The exceptions carry nothing but their message,
so they survive pickling between Ray processes.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BROKEN = (errno.EROFS, errno.EIO, errno.ESTALE)


class RaymillError(Exception):
    exit_status = 3


class UserError(RaymillError):
    exit_status = 2


class RecipeError(UserError):
    """One or more problems in a recipe, a line each."""


class Diverged(UserError):
    """A training with these numbers does no good; one with others may."""


class InfrastructureError(RaymillError):
    exit_status = 3


class GateRefused(RaymillError):
    exit_status = 4


def disk_failure(error: OSError, place: str) -> InfrastructureError | None:
    """What to say where the disk of `place` is full or gave out; None of another failure. Pure."""
    is_short_write = " requested and " in str(error)  # NumPy's words, which come without a number
    if error.errno in FULL or is_short_write:
        reason, remedy = os.strerror(error.errno or errno.ENOSPC), "free space there"
    elif error.errno in BROKEN:
        place, reason, remedy = error.filename or place, os.strerror(error.errno), "mend the disk"
    else:
        return None
    return InfrastructureError(f"{place}: {reason}; {remedy} and run again")


def storage_failure(error: OSError, place: str, problem: str) -> InfrastructureError:
    """What to say where `place` did not do what it was asked for, after all tries. Pure."""
    return disk_failure(error, place) or InfrastructureError(
        f"{place}: {problem}: {error}; mend the storage and run again"
    )


@contextlib.contextmanager
def as_storage_failure(place: str, problem: str) -> Iterator[None]:
    """Raises InfrastructureError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise storage_failure(error, place, problem) from error
