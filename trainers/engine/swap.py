"""Where a worker keeps what has no room in memory: a folder of its own on its node's fast disk.

DeepSpeed names its files by rank alone, so two trainings on a node would write over each other's;
and it leaves them behind. The next worker deletes what a killed one left.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "raymill-swap-"


@contextlib.contextmanager
def swap_folder(disk: Path) -> Iterator[str]:
    """A new folder, locked by this process and deleted at the end. Raises OSError."""
    disk.mkdir(parents=True, exist_ok=True)
    with (disk / f"{PREFIX}lock").open("w") as lock:  # between making a folder and locking it
        fcntl.flock(lock, fcntl.LOCK_EX)
        for abandoned in disk.glob(f"{PREFIX}*/"):
            with contextlib.suppress(OSError), _locked(abandoned):  # else it is in use, or gone
                shutil.rmtree(abandoned)
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=disk)
        at_end = contextlib.ExitStack()
        at_end.enter_context(_locked(Path(folder)))
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
    with at_end:
        yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError where another process has it, or it is gone. The lock goes with the process
    at the latest."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
