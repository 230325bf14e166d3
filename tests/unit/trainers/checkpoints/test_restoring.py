"""The last good checkpoint is loaded; lines say which are passed over and why."""

import errno
import json
from pathlib import Path

import pytest

from cluster.errors import InfrastructureError
from cluster.store.storage import Storage
from tests.unit.trainers.checkpoints.conftest import Training, World, resumed
from trainers.checkpoints import records
from trainers.checkpoints.records import RECORD

FOLDER = "work/demo"
PLACE = f"{FOLDER}/step-00000300"


@pytest.fixture
def saved(world: World, storage: Storage) -> Storage:
    """Three checkpoints of two workers."""
    training = Training(world, storage, kept=3)
    for step in (100, 200, 300):
        training.save(step)
    return storage


def test_another_number_of_workers_loads_the_last_checkpoint(saved: Storage, world: World) -> None:
    line = "resumes from checkpoint step-00000300, resharded from 2 to 1 workers"
    assert resumed(world, saved) == (300, [line])


def test_an_unfinished_checkpoint_is_deleted(saved: Storage, world: World) -> None:
    saved.write(f"{FOLDER}/step-00000400/abc-00000-of-00002.safetensors", b"half")
    assert resumed(world, saved)[0] == 300
    assert saved.folders(FOLDER)[-1] == "step-00000300"


def test_a_flipped_byte_anywhere_is_found(saved: Storage, world: World) -> None:
    record = records.read_record(saved, PLACE)
    for file in (*record.files, RECORD):
        path = Path(saved.root) / PLACE / file
        whole = path.read_bytes()
        for place in {*range(0, len(whole), 41), len(whole) - 1}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            step, lines = resumed(world, saved)
            assert step == 200
            assert lines[0].startswith("checkpoint step-00000300 is passed over: ")
            assert file == RECORD or lines[0].endswith(f"{file} is damaged")
        path.write_bytes(whole)
    assert resumed(world, saved)[0] == 300


def test_every_damaged_checkpoint_is_passed_over(saved: Storage, world: World) -> None:
    part = next(file for file in saved.files(PLACE) if file.endswith("1-of-00002.safetensors"))
    (Path(saved.root) / PLACE / part).unlink()
    saved.write(f"{FOLDER}/step-00000200/{RECORD}", b'{"state": {"step"')
    step, lines = resumed(world, saved)
    assert step == 100
    assert lines[0] == f"checkpoint step-00000300 is passed over: {part} is missing"
    assert lines[1].startswith("checkpoint step-00000200 is passed over: ")


def test_a_checkpoint_of_another_model_is_passed_over(saved: Storage, world: World) -> None:
    """Its hashes are right."""
    part = next(file for file in saved.files(PLACE) if file.endswith("0-of-00002.safetensors"))
    changed = saved.read(f"{PLACE}/{part}").replace(b"weight:0:0.weight", b"weight:0:9.weight")
    saved.write(f"{PLACE}/{part}", changed)
    record = records.read_record(saved, PLACE)
    record.files[part]["sha256"] = saved.sha256(f"{PLACE}/{part}")
    records.write_record(saved, PLACE, record)
    step, lines = resumed(world, saved)
    assert step == 200
    assert lines[0] == (
        "checkpoint step-00000300 is passed over: weight of 0.weight is missing from element 0 on"
    )


def test_a_checkpoint_of_another_version_is_passed_over(saved: Storage, world: World) -> None:
    content = json.loads(saved.read(f"{PLACE}/{RECORD}"))
    del content["sha256"]
    content["state"]["epoch"] = 1
    document = {**content, "sha256": records._digest(content)}
    saved.write(f"{PLACE}/{RECORD}", json.dumps(document).encode())
    step, lines = resumed(world, saved)
    assert step == 200
    assert "another version of raymill wrote it: " in lines[0]


@pytest.mark.parametrize("is_local", [True, False])
def test_a_store_that_does_not_answer_is_no_damaged_checkpoint(
    is_local: bool, saved: Storage, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Storage.read

    def fail(self: Storage, name: str) -> bytes:
        if name.startswith(PLACE):
            raise OSError(errno.EIO, "Input/output error")
        return read(self, name)

    monkeypatch.setattr(Storage, "read", fail)
    if is_local:
        assert resumed(world, saved)[0] == 200
    else:
        remote = Storage(f"file://{saved.root}")
        with pytest.raises(InfrastructureError, match="Input/output error; mend the disk"):
            resumed(world, remote)


def test_checkpoints_that_cannot_be_listed_are_an_error(
    saved: Storage, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Storage, name: str) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Storage, "folders", fail)
    with pytest.raises(InfrastructureError, match="Input/output error; mend the disk"):
        resumed(world, saved)


def test_without_checkpoints_a_run_starts_anew(saved: Storage, world: World) -> None:
    saved.delete(FOLDER)
    assert resumed(world, saved) == (None, [])
