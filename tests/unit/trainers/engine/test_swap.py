"""Workers of a node do not share their files, and leave none behind."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainers.engine.swap import swap_folder


def folders(disk: Path) -> list[str]:
    return sorted(str(path) for path in disk.glob("*/"))


def test_every_worker_has_a_folder_of_its_own(tmp_path: Path) -> None:
    disk = tmp_path / "nvme"
    with swap_folder(disk) as one:
        with swap_folder(disk) as other:
            assert folders(disk) == sorted([one, other])
        assert folders(disk) == [one]
    assert folders(disk) == []


def test_the_next_worker_deletes_what_a_killed_one_left(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with swap_folder(tmp_path) as folder:
                Path(folder, "0.tensor.swp").write_bytes(b"state")
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    (left,) = folders(tmp_path)
    with swap_folder(tmp_path) as folder:
        assert folders(tmp_path) == [folder]
        assert folder != left


def test_nothing_else_is_deleted(tmp_path: Path) -> None:
    """Temporary folders of raymill's own, and a user's, may be on the same disk."""
    for name in ("raymill-x7k2", "raymill-data", "data"):
        (tmp_path / name).mkdir()
    others = folders(tmp_path)
    with swap_folder(tmp_path):
        pass
    assert folders(tmp_path) == others


def test_many_workers_begin_and_end_at_once(tmp_path: Path) -> None:
    def begin_and_end(_: int) -> None:
        with swap_folder(tmp_path) as folder:
            Path(folder, "0.tensor.swp").write_bytes(b"state")
            assert Path(folder, "0.tensor.swp").exists()

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(begin_and_end, range(200)))
    assert folders(tmp_path) == []


def test_a_disk_that_is_gone_fails_no_training_that_is_done(tmp_path: Path) -> None:
    with swap_folder(tmp_path / "nvme"):
        shutil.rmtree(tmp_path / "nvme")
