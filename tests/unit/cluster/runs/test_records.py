import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.runs import records
from cluster.runs.records import Run, StageRecord, alone, recorded
from cluster.store.storage import Storage


def only(storage: Storage) -> dict[str, Any]:
    (record,) = records.listed(storage)
    return record


def test_a_run_is_recorded_while_it_goes_on(storage: Storage) -> None:
    with recorded(storage, "demo") as run:
        assert only(storage)["status"] == "running"
        with run.stage("shard") as stage:
            assert only(storage)["stages"][0]["status"] == "running"
            stage.status, stage.artifact, stage.metrics = "done", "corpus/x", {"tokens": 5}
    record = only(storage)
    assert (record["id"], record["recipe"], record["status"]) == (run.id, "demo", "done")
    (shard,) = record["stages"]
    assert shard.pop("seconds") >= 0
    assert shard.pop("began") <= time.time()
    assert shard == {
        "stage": "shard",
        "status": "done",
        "artifact": "corpus/x",
        "metrics": {"tokens": 5},
    }


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("mend it"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_how_a_run_ended_is_recorded_and_passed_on(
    storage: Storage, error: BaseException, status: str
) -> None:
    with (
        pytest.raises(type(error)),
        recorded(storage, "demo") as run,
        run.stage("shard"),
    ):
        raise error
    record = only(storage)
    assert (record["status"], record["error"]) == (status, str(error))
    assert record["stages"][0]["status"] == status


def test_a_run_that_was_killed_is_told_from_one_that_runs(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for number, pid in enumerate((os.getpid(), ended.pid)):
        (tmp_path / "runs" / f"run-{number}").mkdir(parents=True)
        run = Run(f"run-{number}", "demo", storage, tmp_path / "runs" / f"run-{number}", pid=pid)
        run.save()
    assert [record["status"] for record in records.listed(storage)] == ["running", "killed"]


def test_a_stage_that_was_killed_lasted_until_the_last_sign_of_life(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    began = time.time() - 1000
    stages = [StageRecord("examples", "done", None, began - 5, 5.0),
              StageRecord("shard", "running", "corpus/x", began)]  # fmt: skip
    run = Run("run", "demo", storage, folder, pid=ended.pid, stages=stages)
    run.save()
    run.log.write_text("chatter")
    for path, seconds in ((run.log, 250), (folder / "run.json", 0)):
        os.utime(path, (began + seconds, began + seconds))
    found = only(storage)["stages"]
    assert [(stage["status"], stage["seconds"]) for stage in found] == [
        ("done", 5.0), ("killed", 250.0)
    ]  # fmt: skip
    run.pid = os.getpid()
    run.save()
    (_, shard) = only(storage)["stages"]
    assert shard["status"] == "running"
    assert shard["seconds"] >= 1000, "so far"


@pytest.mark.parametrize("content", [b"", b'{"id": "2020', b'{"\xe1'])
def test_a_damaged_record_hides_no_other(storage: Storage, content: bytes) -> None:
    with recorded(storage, "demo") as run:
        pass
    storage.write("runs/20200101-000000-000000-demo/run.json", content)
    assert only(storage)["id"] == run.id


@pytest.fixture
def running(storage: Storage) -> Iterator[Run]:
    with recorded(storage, "demo") as run:
        yield run


def test_a_second_run_of_a_recipe_is_refused(storage: Storage) -> None:
    with (
        alone(storage, "demo"),
        pytest.raises(UserError, match="another run of this recipe is using the workspace"),
        alone(storage, "demo"),
    ):
        pass
    with alone(storage, "demo"), alone(storage, "other"):
        pass


def test_the_log_reaches_a_remote_workspace(storage: Storage) -> None:
    with recorded(storage, "demo") as run:
        run.log.write_text("chatter")
    assert storage.read(f"runs/{run.id}/log.txt") == b"chatter"
