"""Workers of a node do not share their files, and leave none behind."""

import os
import signal
from pathlib import Path

from trainers.swap import Swap


def folders(disk: Path) -> list[Path]:
    return sorted(path for path in disk.glob("*/") if path.is_dir())


def test_every_worker_has_a_folder_of_its_own(tmp_path: Path) -> None:
    disk = tmp_path / "nvme"
    one, other = Swap(str(disk)), Swap(str(disk))
    assert folders(disk) == sorted([Path(one.folder), Path(other.folder)])
    one.close()
    assert folders(disk) == [Path(other.folder)]
    other.close()
    assert folders(disk) == []


def test_what_a_killed_worker_left_goes_with_the_next(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        Path(Swap(str(tmp_path)).folder, "0.tensor.swp").write_bytes(b"state")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (left,) = folders(tmp_path)
    own = Swap(str(tmp_path))
    assert folders(tmp_path) == [Path(own.folder)]
    assert Path(own.folder) != left
    own.close()
