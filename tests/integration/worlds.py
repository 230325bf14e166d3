"""Trainings on real DeepSpeed engines, in a world of one process and one of two over gloo.

All cases of a test share one start of the three processes.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import groups
from safetensors.torch import load_file
from torch import Tensor, nn

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from tests.integration import processes
from trainers.engine import zero
from trainers.engine.job import TrainJob
from trainers.engine.loop import train
from trainers.engine.optimizers import optimizer
from trainers.engine.training_config import Training
from trainers.tasks.task import Task

SEED = 17
Weights = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Case:
    task: Task
    settings: Training
    plain: bool = False
    """Steps by the gradient alone, at the learning rate."""
    resumes: bool = False
    """Leaves a checkpoint after each step; is then run again, and goes on from the last one."""
    left_out: list[list[int]] = dataclasses.field(default_factory=list)
    """Samples that it tells not to have learned from."""


def trained(cases: Mapping[str, Case], folder: Path) -> dict[str, Weights]:
    """The weights at the end of each case, in fp32."""
    processes.run(_process, (cases, folder), 3)
    return {name: _weights(folder, name) for name in cases}


def initial(task: Task) -> Weights:
    torch.manual_seed(SEED)
    return {name: value.detach() for name, value in task.model().state_dict().items()}


def _process(number: int, cases: Mapping[str, Case], folder: Path) -> None:
    """Process 0 is a world of its own, 1 and 2 are one."""
    workers, rank = (1, 0) if number == 0 else (2, number - 1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    store = dist.FileStore(str(folder / f"world-of-{workers}"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    torch.set_num_threads(1)
    processes.gate_in_own_process()
    storage = Storage.at(str(folder))
    for name, case in cases.items():
        if case.settings.workers == workers:
            zero.optimizer = _plain if case.plain else optimizer  # type: ignore[assignment]
            job = TrainJob(lambda task=case.task: task, case.settings, SEED, _draft(storage, name))
            metrics = _trained(job, Notes())
            assert metrics["left_out"] == case.left_out, (name, metrics)
            if case.resumes:
                again = Notes()
                _trained(job, again)
                assert rank != 0 or "resumes from checkpoint" in again.lines[0], again.lines
    dist.destroy_process_group()


def _trained(job: TrainJob, notes: Notes) -> dict[str, Any]:
    try:
        return train(job, notes)
    finally:  # a worker has one training that shares anything; here it has several
        groups._release_process_group_references()


def _plain(module: nn.Module, settings: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=settings.learning_rate)


def _draft(storage: Storage, name: str) -> Draft:
    return Draft(storage, f"model/{name.replace('/', '-')}")


def _weights(folder: Path, name: str) -> Weights:
    storage = Storage.at(str(folder))
    weights = load_file(storage.local(_draft(storage, name).place) / "model.safetensors")
    return {key: value.float() for key, value in weights.items()}


def distance(one: Weights, other: Weights) -> float:
    """The largest difference of two weights."""
    assert one.keys() <= other.keys()  # of tied weights only one is in a file
    return max(float((value - other[name]).abs().max()) for name, value in one.items())
