"""Trainings in one local Ray: one that lacks memory and loses its worker goes on and misses no
sample, one that has learned nothing says so, and room that a lost one held comes free."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import ray
import torch
from ray.util import placement_group, placement_group_table
from torch import Tensor

from cluster.ray import session
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.fakes import Notes
from tests.integration.command import until
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch.training import Limits, fit_all
from trainers.tasks.task import Batch

ROWS, BATCH, EPOCHS, SEED = 96, 12, 2, 17


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    with mock.patch.dict(os.environ), session.connected(None, 2):
        yield


@dataclasses.dataclass(frozen=True)
class Failing(numbered.Recorded):
    """Has no memory for more than six sequences, and dies once, in the second epoch."""

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        if len(batch["numbers"]) > 6:
            torch.empty(1 << 60, dtype=torch.uint8)
        died = self.folder / "died"
        if int(batch["numbers"][0]) >= ROWS and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().learned(loss, batch)


def test_a_worker_that_lacks_memory_and_is_killed_goes_on(tmp_path: Path) -> None:
    records, notes = tmp_path / "records", Notes()
    records.mkdir()
    task = Failing(numbered.task(tmp_path, ROWS), records)
    keys = numbered.settings(epochs=EPOCHS, micro_batch_size=12, checkpoint_minutes=1e-6)
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    job = TrainJob(lambda: task, Training.model_validate(keys), SEED, draft)
    (metrics,) = fit_all([job], notes, Limits(1))
    told = "\n".join(notes.lines)
    assert "micro_batch_size 6 in place of 12" in told
    assert "a worker was lost" in told
    assert "resumes from checkpoint" in told
    assert metrics["samples"] == ROWS * EPOCHS
    steps = numbered.learned(records, BATCH)
    numbered.assert_each_once_an_epoch(steps, ROWS, BATCH, EPOCHS)
    assert {len(record["numbers"]) for record in numbered.records(records)} == {6}


def test_a_training_worse_than_guessing_is_told(tmp_path: Path) -> None:
    task = numbered.task(tmp_path, ROWS)
    notes, jobs = Notes(), []
    for rate in (3e-3, 1.0):
        keys: dict[str, Any] = numbered.settings(learning_rate=rate, epochs=EPOCHS)
        jobs.append(TrainJob(lambda: task, Training.model_validate(keys), SEED))
    good, bad = fit_all(jobs, notes, Limits())
    assert not good["worse_than_guessing"]
    assert bad["worse_than_guessing"]
    (warning,) = (line for line in notes.lines if line.startswith("warning: "))
    assert f"validation loss {bad['loss']:.4f} is worse than guessing, " in warning


@ray.remote(num_cpus=0)
class Controller:
    """As Ray Train's, it has a placement group, and a cleaner behind it."""

    def __init__(self) -> None:
        from cluster.ray.train_internals import placement_group_callback
        from trainers.launch import elastic  # noqa: F401  as a controller's callbacks do

        cleaning: Any = placement_group_callback.PlacementGroupCleanerCallback()
        cleaning.after_controller_start(SimpleNamespace(run_id="run"))
        self.held = placement_group([{"CPU": 2}])
        ray.get([self.held.ready(), cleaning._cleaner.register_placement_group.remote(self.held)])

    def own(self) -> tuple[int, Any]:
        return os.getpid(), self.held


def test_the_room_of_a_group_whose_controller_is_killed_comes_free() -> None:
    """Its placement group would outlive it, and no other group start. There is no dashboard."""
    pid, held = ray.get(Controller.remote().own.remote())
    until(lambda: ray.available_resources().get("CPU", 0) == 0)
    os.kill(pid, signal.SIGKILL)
    until(lambda: placement_group_table(held)["state"] == "REMOVED")
    until(lambda: ray.available_resources().get("CPU") == 2)
