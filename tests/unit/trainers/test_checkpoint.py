"""A load takes the last checkpoint that is whole, and says which it passes over."""

import dataclasses
import json
from pathlib import Path

import pytest

from cluster.artifacts import Draft
from cluster.storage import Storage
from tests.fakes import Notes
from trainers import checkpoint
from trainers.checkpoint import RECORD, LoopState, _last_good

FOLDER = "work/demo"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Three checkpoints of two workers."""
    storage = Storage.at(str(tmp_path))
    for step in (100, 200, 300):
        place = f"{FOLDER}/step-{step:08d}"
        storage.write(f"{place}/state/rank-0.pt", f"weights {step}".encode())
        record = {
            "state": dataclasses.asdict(LoopState(step=step, samples=8 * step)),
            "workers": 2,
            "files": {name: storage.sha256(f"{place}/{name}") for name in storage.files(place)},
        }
        storage.write(f"{place}/{RECORD}", json.dumps(record).encode())
    return storage


def resumed(storage: Storage, workers: int = 2) -> tuple[int | None, list[str]]:
    notes = Notes()
    found = _last_good(storage, FOLDER, workers, notes)
    return found and LoopState(**found[1]).step, notes.lines


def test_the_last_one_is_taken(storage: Storage) -> None:
    assert resumed(storage) == (300, ["resumes from checkpoint step-00000300"])


def test_one_that_was_never_finished_is_none(storage: Storage) -> None:
    storage.write(f"{FOLDER}/step-00000400/state/rank-0.pt", b"half")
    assert resumed(storage)[0] == 300


def test_a_damaged_one_is_passed_over_and_named(storage: Storage) -> None:
    storage.write(f"{FOLDER}/step-00000300/state/rank-0.pt", b"wights 300")
    storage.delete(f"{FOLDER}/step-00000200/state")
    step, lines = resumed(storage)
    assert step == 100
    assert lines == [
        "checkpoint step-00000300 is passed over: state/rank-0.pt is damaged",
        "checkpoint step-00000200 is passed over: state/rank-0.pt is damaged",
        "resumes from checkpoint step-00000100",
    ]


def test_those_of_other_workers_are_passed_over(storage: Storage) -> None:
    step, lines = resumed(storage, workers=4)
    assert step is None
    assert len(lines) == 3
    assert "it is of 2 workers, this run has 4" in lines[0]


class Engine:
    def save_checkpoint(self, folder: str, tag: str) -> None:
        (Path(folder) / tag).mkdir()
        (Path(folder) / tag / "rank-0.pt").write_bytes(b"weights")


def test_new_ones_outlive_those_that_were_passed_over(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of other workers begins anew, at steps before theirs."""
    monkeypatch.setattr(checkpoint.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(checkpoint.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(checkpoint.dist, "barrier", lambda: None)
    draft = Draft(storage, "model/demo")
    for step in (50, 60, 70):
        checkpoint.save(Engine(), LoopState(step=step), draft)
    names = [f"step-{step:08d}" for step in (60, 70, 100, 200, 300)]
    assert storage.folders(FOLDER) == names
    step, _ = resumed(storage, workers=1)
    assert step == 70


def test_without_checkpoints_a_run_begins_at_the_beginning(storage: Storage) -> None:
    storage.delete(FOLDER)
    assert resumed(storage) == (None, [])
