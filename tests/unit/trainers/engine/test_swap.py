"""Workers of a node do not share their files, and leave none behind."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainers.engine.swap import Swap


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
        try:
            Path(Swap(str(tmp_path)).folder, "0.tensor.swp").write_bytes(b"state")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    (left,) = folders(tmp_path)
    own = Swap(str(tmp_path))
    assert folders(tmp_path) == [Path(own.folder)]
    assert Path(own.folder) != left
    own.close()


def test_nothing_else_goes(tmp_path: Path) -> None:
    """Temporary folders of raymill's own, and a user's, may be on the same disk."""
    for name in ("raymill-x7k2", "raymill-data", "data"):
        (tmp_path / name).mkdir()
    others = folders(tmp_path)
    Swap(str(tmp_path)).close()
    assert folders(tmp_path) == others


def test_many_workers_begin_and_end_at_once(tmp_path: Path) -> None:
    def begin_and_end(_: int) -> None:
        swap = Swap(str(tmp_path))
        Path(swap.folder, "0.tensor.swp").write_bytes(b"state")
        assert Path(swap.folder, "0.tensor.swp").exists()
        swap.close()

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(begin_and_end, range(200)))
    assert folders(tmp_path) == []


def test_a_disk_that_is_gone_fails_no_training_that_is_done(tmp_path: Path) -> None:
    swap = Swap(str(tmp_path / "nvme"))
    shutil.rmtree(tmp_path / "nvme")
    swap.close()
