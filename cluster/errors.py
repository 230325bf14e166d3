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


def full_disk(error: OSError, place: str) -> InfrastructureError | None:
    """What to tell of a write to `place` that found no room, or None of another failure. Pure."""
    is_short_write = " requested and " in str(error)  # so NumPy tells of it, without a number
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not is_short_write:
        return None
    return InfrastructureError(
        f"{place}: {os.strerror(error.errno or errno.ENOSPC)}; free space there and run again"
    )


def failed_disk(error: OSError, place: str) -> InfrastructureError | None:
    """What to tell of a disk, if nothing else is known that of `place`, which is full or gave out,
    or None of another failure. Pure."""
    if error.errno in (errno.EROFS, errno.EIO, errno.ESTALE):
        return InfrastructureError(
            f"{error.filename or place}: {os.strerror(error.errno)}; mend the disk and run again"
        )
    return full_disk(error, place)


def of_storage(error: OSError, place: str, what: str) -> InfrastructureError:
    """What to tell of a `place` that did not do what it was asked for, after all tries. Pure."""
    return full_disk(error, place) or InfrastructureError(
        f"{place}: {what}: {error}; mend the storage and run again"
    )


@contextlib.contextmanager
def storage_told(place: str, what: str) -> Iterator[None]:
    """Raises InfrastructureError in place of OSError: see `of_storage`."""
    try:
        yield
    except OSError as error:
        raise of_storage(error, place, what) from error
