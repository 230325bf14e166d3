"""Ray's memory monitor kills a worker, and with it what its controller started beside: the training
goes on with smaller micro-batches, and learns the same."""

import dataclasses
import os
import time
from pathlib import Path
from unittest import mock

import psutil
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from cluster.ray import session
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.fakes import Notes
from tests.wrapped import Wrapped
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch.training import Limits, fit_all
from trainers.tasks.task import Batch

ROOM = 5 << 30
"""Bytes that a training may take here before the monitor kills: more than Ray and the workers do,
and as much as one worker is to ask for."""


@dataclasses.dataclass(frozen=True)
class Greedy(Wrapped):
    """The second worker takes memory for more than two sequences until it is killed."""

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        if dist.get_rank() == 1 and len(batch["numbers"]) > 2:
            taken = torch.ones(ROOM, dtype=torch.uint8)
            time.sleep(60)
            del taken
        return loss


def test_what_rays_monitor_kills_goes_on_with_less(tmp_path: Path) -> None:
    task = numbered.task(tmp_path, rows=48)
    memory = psutil.virtual_memory()
    if memory.available < 2 * ROOM:
        pytest.skip("too little memory here to run out of it on purpose")
    threshold = (memory.total - memory.available + ROOM) / memory.total
    monitor = {
        "RAY_memory_usage_threshold": f"{threshold:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    settings = Training.model_validate(numbered.settings(workers=2))
    found = {}
    with mock.patch.dict(os.environ, monitor), session.connected(None, 2):
        for name, trained in (("greedy", Greedy(task)), ("unbroken", task)):
            notes = Notes()
            draft = Draft(Storage.at(str(tmp_path / name)), f"model/{name}-pretrain-00")
            found[name] = fit_all(
                [TrainJob(lambda one=trained: one, settings, 17, draft)], notes, Limits()
            )[0]
            was_short = any("with micro_batch_size 2 in place of 4" in line for line in notes.lines)
            assert was_short == (name == "greedy"), notes.lines
    assert found["greedy"]["loss"] == pytest.approx(found["unbroken"]["loss"], abs=1e-5)
