"""Trackers offline: what they wrote is read back from their files."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.recipe import section
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.engine import trackers
from trainers.engine.trackers import Trackers, TrainingInfo, values

NAME = "demo-pretrain-0123"


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage.at(f"{'file://' if request.param == 'remote' else ''}{tmp_path}")


def training(storage: Storage, step: int = 0) -> TrainingInfo:
    return TrainingInfo("demo", "pretrain", NAME, storage, step, {"batch_size": 16})


def follow(names: tuple[str, ...], storage: Storage, first: int, last: int) -> list[str]:
    """A training from step to step; what the user was told."""
    notes = Notes()
    followed = Trackers(names, training(storage, first - 1), notes)
    for step in range(first, last + 1):
        followed.log(step, {"loss": 10.0 / step, "validation/accuracy": step / 100})
    followed.close()
    return notes.lines


def events(data: bytes) -> Iterator[Any]:
    """Of a TensorBoard file: records of length, its checksum, bytes, their checksum."""
    from tensorboardX.proto.event_pb2 import Event

    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def test_tensorboard_has_every_value_once(storage: Storage) -> None:
    assert follow(("tensorboard",), storage, 1, 5) == []
    assert follow(("tensorboard",), storage, 4, 6) == []
    path = f"tensorboard/{NAME}"
    files = sorted(storage.files(path), key=lambda name: name.rpartition(".")[2])
    first, second = ([*events(storage.read(f"{path}/{name}"))] for name in files)
    shown = {
        (event.step, value.tag): value.simple_value
        for event in first
        for value in event.summary.value
    }
    assert shown[3, "loss"] == pytest.approx(10 / 3)
    assert shown[5, "validation/accuracy"] == pytest.approx(0.05)
    assert len(shown) == 10
    starts = [event.step for event in second if event.HasField("session_log")]
    assert starts == [4], "what the first wrote from there on is not shown"


def logged(data: bytes) -> Iterator[bytes]:
    """Of a W&B file, a LevelDB log behind seven bytes: each record's checksum, length, kind. They
    are short here, so none is parted between blocks."""
    at = 7
    while at + 7 < len(data):
        _, length, kind = struct.unpack_from("<IHB", data, at)
        assert kind == 1
        yield data[at + 7 : at + 7 + length]
        at += 7 + length


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra raymill[wandb] is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert follow(("wandb",), Storage.at(str(tmp_path)), 1, 5) == []
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    records = [Record.FromString(data) for data in logged(file.read_bytes())]
    runs = [record.run for record in records if record.HasField("run")]
    assert {(run.project, run.run_id) for run in runs} == {("demo", NAME)}
    losses = {
        record.history.step.num: item.value_json
        for record in records
        if record.HasField("history")
        for item in record.history.item
        if "loss" in (item.key, *item.nested_key)
    }
    assert float(losses[4]) == 2.5
    assert sorted(losses) == [1, 2, 3, 4, 5]


def test_mlflow_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra raymill[mlflow] is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    storage = Storage.at(str(tmp_path))
    assert follow(("mlflow",), storage, 1, 5) == []
    assert follow(("mlflow",), storage, 4, 6) == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"batch_size": "16"}
    history = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [one.step for one in history] == [1, 2, 3, 4, 5, 6], "each once"
    assert run.info.status == "FINISHED"


class Gauge:
    """Stands for Ray's."""

    made: dict[str, "Gauge"] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]):
        self.made[name] = self
        self.tag_keys = tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.tag_keys
        self.value, self.tags = value, tags


def test_prometheus_has_the_last_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util.metrics

    monkeypatch.setattr(ray.util.metrics, "Gauge", Gauge)
    tracker = trackers.Prometheus(training(Storage.at(str(tmp_path))))
    tracker.log(1, {"tokens_per_second": 5.0})
    tracker.log(2, {"tokens_per_second": 7.0, "validation/loss": 3.0})
    shown = {name: gauge.value for name, gauge in Gauge.made.items()}
    assert shown == {
        "raymill_step": 2, "raymill_tokens_per_second": 7.0, "raymill_validation_loss": 3.0,
    }  # fmt: skip
    assert Gauge.made["raymill_step"].tags == {"recipe": "demo", "stage": "pretrain"}


class Broken:
    def __init__(self, _: TrainingInfo):
        self.calls = 0

    def log(self, step: int, shown: dict[str, float]) -> None:
        self.calls += 1
        if step == 2:
            raise ConnectionError("no route to host")
        assert step < 2

    def close(self) -> None:
        raise AssertionError("it was left out")


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.KINDS, "wandb", Broken)  # type: ignore[arg-type]
    monkeypatch.setitem(section.TRACKERS, "wandb", "json")  # which is installed
    storage = Storage.at(str(tmp_path))
    assert follow(("wandb", "tensorboard"), storage, 1, 4) == [
        "wandb is left out from here on: ConnectionError('no route to host')"
    ]
    (data,) = (path.read_bytes() for path in (tmp_path / "tensorboard" / NAME).iterdir())
    assert max(event.step for event in events(data)) == 4


def test_trackers_get_the_numbers_of_a_line() -> None:
    line = {
        "step": 3,
        "time": 1.7e9,
        "loss": 2.0,
        "gradient_norm": None,
        "validation": {"loss": 2.5, "accuracy": 0.5},
    }
    assert values(line) == {"loss": 2.0, "validation/loss": 2.5, "validation/accuracy": 0.5}
