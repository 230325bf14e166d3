"""A training that has learned nothing says so, and ends well all the same."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

from cluster.ray import session
from tests import numbered
from tests.fakes import Notes
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch.training import Limits, fit_all


def test_a_training_worse_than_guessing_is_told(tmp_path: Path) -> None:
    task = numbered.task(tmp_path, 96)
    notes, jobs = Notes(), []
    for rate in (3e-3, 1.0):
        keys: dict[str, Any] = numbered.settings(learning_rate=rate, epochs=2)
        jobs.append(TrainJob(lambda: task, Training.model_validate(keys), 17))
    with mock.patch.dict(os.environ), session.connected(None, 1):
        good, bad = fit_all(jobs, notes, Limits())
    assert not good["worse_than_guessing"]
    assert bad["worse_than_guessing"]
    (warning,) = (line for line in notes.lines if line.startswith("warning: "))
    assert f"validation loss {bad['loss']:.4f} is worse than guessing, " in warning
