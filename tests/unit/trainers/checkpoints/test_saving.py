"""Checkpoints are written while the training goes on: kills, full disks, storage that fails."""

import contextlib
import errno
import json
import resource
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import InfrastructureError
from cluster.store import retries
from cluster.store.storage import Storage
from tests.fakes import FlakyFileSystem
from tests.s3 import S3Server
from tests.unit.trainers.checkpoints.conftest import Training, World, resumed
from trainers.checkpoints import records, saving

FOLDER = "work/demo"


@pytest.fixture
def training(world: World, storage: Storage) -> Training:
    return Training(world, storage)


class Killed(Exception):
    """Stands for the end of the process: nothing is cleaned up behind it."""


class Deadly:
    """A storage's writes, of which a piece is the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int):
        self._write, self._left = Storage.write_pieces, last
        monkeypatch.setattr(Storage, "write_pieces", self.write_pieces)
        monkeypatch.setattr(saving, "POLL_S", 0.001)

    def write_pieces(self, name: str, pieces: Iterable[Any]) -> None:
        raise NotImplementedError

    def __get__(self, storage: Storage, kind: type) -> Any:
        return lambda name, pieces: self._write(storage, name, self._counted(pieces))

    def _counted(self, pieces: Iterable[Any]) -> Iterator[Any]:
        for piece in pieces:
            if self._left == 0:
                raise Killed
            self._left -= 1
            yield piece


def test_a_kill_at_any_moment_leaves_the_last_one_or_the_one_before(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    Training(world, storage).save(1)
    steps = []
    for last in range(60):
        training = Training(world, storage)
        with monkeypatch.context() as patched:
            patched.setattr(Storage, "write_pieces", Deadly(patched, last))
            training.begin(2 + last)
            for checkpoints in training.ranks[::-1]:
                checkpoints._given_up.set()  # where rank 1 is dead, rank 0 is ended
                with contextlib.suppress(Killed):
                    checkpoints.wait()
        step, _ = resumed(world, storage)
        steps.append(step == 2 + last)
        assert step is not None
    assert True in steps
    assert False in steps


def test_the_training_goes_on_while_a_checkpoint_is_written(
    training: Training, world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = Storage.write_pieces

    def write_later(self: Storage, name: str, pieces: Any) -> None:
        assert may_write.wait(600)
        write(self, name, pieces)

    monkeypatch.setattr(Storage, "write_pieces", write_later)
    training.begin(1)
    training.engine.fill(-2.0)  # the training goes on
    assert resumed(world, storage)[0] is None
    may_write.set()
    for checkpoints in training.ranks:
        checkpoints.wait()
    assert resumed(world, storage)[0] == 1


def test_only_one_checkpoint_is_under_way(
    training: Training, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, most = [0], [0]
    write = Storage.write_pieces

    def counted(self: Storage, name: str, pieces: Any) -> None:
        if name.endswith(".safetensors") and "00000-of" in name:
            writing[0] += 1
            most[0] = max(most[0], writing[0])
            write(self, name, pieces)
            writing[0] -= 1
        else:
            write(self, name, pieces)

    monkeypatch.setattr(Storage, "write_pieces", counted)
    for step in range(1, 6):
        training.begin(step)
    for checkpoints in training.ranks:
        checkpoints.wait()
    assert most == [1]
    assert storage.folders(FOLDER) == ["step-00000004", "step-00000005"]


def test_the_last_good_checkpoints_are_kept_beside_unfinished_ones(
    world: World, storage: Storage
) -> None:
    training = Training(world, storage, kept=2)
    for step in (10, 20):
        training.save(step)
    storage.write(f"{FOLDER}/draft/config.json", b"{}")  # other work
    for name in ("step-00000021", "step-00000022", "step-00000090"):
        storage.write(f"{FOLDER}/{name}/abc-00000-of-00002.safetensors", b"half")
    training.save(30)
    names = ["draft", "step-00000020", "step-00000030", "step-00000090"]
    assert storage.folders(FOLDER) == names
    resumed(world, storage)
    assert storage.folders(FOLDER) == names[:-1]


def test_a_checkpoint_that_was_passed_over_does_not_count_as_kept(
    world: World, storage: Storage
) -> None:
    for step in (10, 20, 30):
        Training(world, storage).save(step)
    (part,) = (Path(storage.root) / FOLDER / "step-00000030").glob("*1-of-00002.safetensors")
    part.write_bytes(b"damaged")
    going_on = Training(world, storage)
    for rank, checkpoints in enumerate(going_on.ranks):
        world.rank = rank
        state = checkpoints.restore()
    assert state is not None
    assert state.step == 20
    going_on.save(31)
    assert storage.folders(FOLDER) == ["step-00000020", "step-00000031"]


def test_parts_that_a_killed_run_left_of_the_same_step_are_not_used(
    world: World, storage: Storage
) -> None:
    killed = Training(world, storage)
    killed.engine.fill(7.5)
    world.rank = 1
    killed.ranks[1].save(saving.LoopState(step=8, samples=64))
    killed.ranks[1].wait()
    training = Training(world, storage)
    training.save(8)
    assert resumed(world, storage)[0] == 8


def test_every_third_call_to_storage_may_fail(
    training: Training, world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0,) * 8)
    flaky = FlakyFileSystem.under(storage)
    for step in (1, 2, 3):
        training.save(step)
    assert resumed(world, storage)[0] == 3
    assert flaky.calls > 30


def test_checkpoints_on_an_object_store(
    world: World, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = Storage.at(s3_server.workspace())
    training = Training(world, storage)
    for step in (1, 2, 3):
        training.save(step)
    assert storage.folders(FOLDER) == ["step-00000002", "step-00000003"]
    part = next(iter(records.read_record(storage, f"{FOLDER}/step-00000003").files))
    assert resumed(world, storage)[0] == 3
    storage.write(f"{FOLDER}/step-00000003/{part}", b"something else")
    assert resumed(world, storage)[0] == 2
    assert not list((tmp_path / ".cache" / "raymill").glob("*/")), "no copy is left here"


def test_a_full_disk_is_an_error_and_the_last_checkpoint_is_kept(
    training: Training, world: World, storage: Storage
) -> None:
    training.save(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))  # no file may be larger
    try:
        training.begin(2)
        with pytest.raises(InfrastructureError, match="free space there and run"):
            training.ranks[1].wait()
    finally:
        training.ranks[0]._given_up.set()
        training.ranks[0]._thread.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [name for name in storage.files(FOLDER) if name.endswith(".part")]
    assert resumed(world, storage)[0] == 1


def test_a_read_only_storage_is_an_error_at_the_next_step(
    training: Training, world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.save(1)

    def refuse(self: Storage, name: str, pieces: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "write_pieces", refuse)
        training.begin(2)
        for checkpoints in training.ranks:
            checkpoints._given_up.set()
            assert checkpoints._thread is not None
            checkpoints._thread.join()
            with pytest.raises(InfrastructureError, match="Read-only file system; mend the disk"):
                checkpoints.raise_failure()
    assert resumed(world, storage)[0] == 1


def test_a_training_that_fails_waits_for_the_checkpoint_under_way(
    world: World, storage: Storage
) -> None:
    training = Training(world, storage)
    training.begin(4)
    for checkpoints in training.ranks:
        checkpoints.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert resumed(world, storage)[0] == 4


def test_a_checkpoint_is_given_up_where_another_rank_is_gone(
    training: Training, world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.save(4)
    monkeypatch.setattr(saving, "PATIENCE_S", 0.01)
    left = training.ranks[0]
    training.engine.fill(5)
    world.rank = 0
    left.save(saving.LoopState(step=5))
    left.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    left._thread.join(10)
    assert not left._thread.is_alive()
    assert resumed(world, storage)[0] == 4


def test_the_record_is_readable(training: Training, storage: Storage) -> None:
    training.save(3)
    record = json.loads(storage.read(f"{FOLDER}/step-00000003/record.json"))
    assert (record["workers"], record["zero_stage"], record["state"]["step"]) == (2, 0, 3)
    parts = [name for name in storage.files(f"{FOLDER}/step-00000003") if "safetensors" in name]
    assert sorted(record["files"]) == parts
    assert len(parts) == 2
