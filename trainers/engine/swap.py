"""Where a worker keeps what has no room in memory: a folder of its own on its node's fast disk.

DeepSpeed names its files by rank alone, so two trainings on a node would write over each other's,
and leaves them behind. What a killed worker left is deleted by the next one.
"""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX, LOCK = "raymill-swap-", "lock"


class Swap:
    """A folder that is this process's until it is closed, or the process ends."""

    def __init__(self, disk: str):
        """Raises OSError."""
        self._place = Path(disk)
        self._place.mkdir(parents=True, exist_ok=True)
        with self._to_itself():
            for left in self._place.glob(f"{PREFIX}*/"):
                if not _is_in_use(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=self._place)
            self._lock = Path(self.folder, LOCK).open("w")  # noqa: SIM115  until it is closed
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        # A disk that failed is told where it is used.
        with contextlib.suppress(OSError), self._to_itself():
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @contextlib.contextmanager
    def _to_itself(self) -> Iterator[None]:
        """One process of the node at a time makes and deletes folders."""
        with (self._place / f"{PREFIX}{LOCK}").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _is_in_use(folder: Path) -> bool:
    try:
        with (folder / LOCK).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its process was killed while it made or deleted the folder
        return False
    return False
