"""Where a worker keeps what has no room in memory: a folder of its own on its node's fast disk.

DeepSpeed names its files by rank alone, so two trainings on a node would write over each other's,
and leaves them behind. What a killed worker left is deleted by the next one.
"""

import fcntl
import shutil
import tempfile
from pathlib import Path

PREFIX, LOCK = "raymill-", "lock"


class Swap:
    """A folder that is this process's until it is closed, or the process ends."""

    def __init__(self, disk: str):
        """Raises OSError."""
        place = Path(disk)
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{PREFIX}{LOCK}").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # one process of the node at a time
            for left in place.glob(f"{PREFIX}*/"):
                if not _is_in_use(left):
                    shutil.rmtree(left)
            self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
            self._lock = Path(self.folder, LOCK).open("w")  # noqa: SIM115  until it is closed
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _is_in_use(folder: Path) -> bool:
    try:
        with (folder / LOCK).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its process was killed before it was there
        return False
    return False
