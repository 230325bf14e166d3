"""A training whose memory gives out, and whose worker is killed, goes on, and misses nothing."""

import dataclasses
import os
import signal
from pathlib import Path
from unittest import mock

import torch
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


def test_one_worker_goes_on(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    task = Failing(numbered.task(tmp_path, ROWS), records)
    keys = numbered.settings(epochs=EPOCHS, micro_batch_size=12, checkpoint_minutes=1e-6)
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    notes = Notes()
    with mock.patch.dict(os.environ), session.connected(None, 1):
        metrics = fit_all(
            [TrainJob(lambda: task, Training.model_validate(keys), 17, draft)], notes, Limits(1)
        )[0]
    said = "\n".join(notes.lines)
    assert "micro_batch_size 6 in place of 12" in said
    assert "a worker was lost" in said
    assert "resumes from checkpoint" in said
    assert metrics["samples"] == ROWS * EPOCHS
    steps = numbered.learned(records, BATCH)
    numbered.assert_each_once_an_epoch(steps, ROWS, BATCH, EPOCHS)
    assert {len(record["numbers"]) for record in numbered.records(records)} == {6}
