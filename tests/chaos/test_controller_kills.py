"""A training whose controller is killed goes on, and misses nothing.

With the long tests, since four workers import torch; that the controller's room comes free is shown
by tests/integration/test_trainings.py.
"""

import dataclasses
import os
from pathlib import Path
from unittest import mock

import psutil
from torch import Tensor

from cluster.ray import session
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.fakes import Notes
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch.training import Limits, fit_all
from trainers.tasks.task import Batch

ROWS, BATCH, EPOCHS = 96, 12, 2


@dataclasses.dataclass(frozen=True)
class WithoutController(numbered.Recorded):
    """Kills Ray Train's controller once, in the second epoch."""

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        died = self.folder / "died"
        if int(batch["numbers"][0]) >= ROWS and not died.exists():
            died.touch()
            for process in psutil.Process().parent().children():
                if process.name().startswith("ray::TrainController"):
                    process.kill()
        return super().learned(loss, batch)


def test_a_group_whose_controller_is_killed_makes_room_for_the_next(tmp_path: Path) -> None:
    """Its placement group outlives it, and holds all CPUs until someone removes it."""
    records = tmp_path / "records"
    records.mkdir()
    task = WithoutController(numbered.task(tmp_path, ROWS), records)
    keys = numbered.settings(epochs=EPOCHS, workers=2, checkpoint_minutes=1e-6)
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    notes = Notes()
    with mock.patch.dict(os.environ), session.connected(None, 2):
        metrics = fit_all(
            [TrainJob(lambda: task, Training.model_validate(keys), 17, draft)], notes, Limits(1)
        )[0]
    said = "\n".join(notes.lines)
    assert said.count("starting 2 workers") == 2, said
    assert metrics["samples"] == ROWS * EPOCHS
    steps = numbered.learned(records, BATCH)
    numbered.assert_each_once_an_epoch(steps, ROWS, BATCH, EPOCHS)
