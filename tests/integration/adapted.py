"""Trainings of adapters on real DeepSpeed engines, in a world of two processes over gloo.

All cases share one start of the two processes.
"""

import dataclasses
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import groups
from safetensors import safe_open

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.adapters import Toy
from tests.fakes import Notes
from trainers.engine.job import Ended, TrainJob
from trainers.engine.loop import train
from trainers.engine.stop_requests import Request
from trainers.methods import saving
from trainers.tasks.classify.spec import Classify

SEED = 17


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    method: Mapping[str, Any]
    stage: int
    precision: str = "fp32"
    resumes: bool = False
    """Is stopped after its third step, and goes on from the checkpoint."""
    base: "Case | None" = None
    """Whose model it starts from; else from that of its kind."""

    @property
    def name(self) -> str:
        keys = "-".join(f"{key}={value}" for key, value in self.method.items() if key != "name")
        how = "-resumes" if self.resumes else "-further" if self.base else ""
        return f"{self.kind}-{self.method['name']}-{keys}-{self.stage}-{self.precision}{how}"

    @property
    def settings(self) -> Classify:
        return Classify.model_validate(
            {
                "method": self.method,
                "workers": 2,
                "batch_size": 8,
                "micro_batch_size": 2,
                "epochs": 3,
                "precision": self.precision,
                "zero": {"stage": self.stage},
                "checkpoint_minutes": 1000,
                "learning_rate": 1e-2,
            }
        )

    def draft(self, folder: Path) -> Draft:
        return Draft(Storage.at(str(folder)), f"model/{self.name}")


def trained(rank: int, cases: Sequence[Case], folder: Path) -> None:
    """Trains every case, as one of two processes; what a gate refuses is in a file beside it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    store = dist.FileStore(str(folder / "world"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    # This process has no engine that the gate could meet: each is gone when the next one begins.
    saving.call_in_plain_process = lambda function, *arguments: function(*arguments)
    for case in cases:
        try:
            _trained(case, folder)
        except Exception:  # noqa: BLE001  told by the test of this case
            (folder / f"{case.name}.{rank}.error").write_text(traceback.format_exc())
    dist.destroy_process_group()


def _note_checkpoint(case: Case, folder: Path) -> None:
    """The names of all that a checkpoint has."""
    if dist.get_rank() == 0:
        names = set()
        for part in (folder / case.draft(folder).work).glob("step-*/*.safetensors"):
            with safe_open(part, "pt") as file:
                names |= {key.split(":", 2)[2] for key in file.keys()}  # noqa: SIM118
        (folder / f"{case.name}.checkpoint").write_text("\n".join(sorted(names)))


def _trained(case: Case, folder: Path) -> None:
    start = folder / case.kind if case.base is None else folder / case.base.draft(folder).place
    task = Toy(str(start), str(folder / case.kind), case.kind)
    job = TrainJob(lambda: task, case.settings, SEED, case.draft(folder))
    asked = 0

    def stop() -> Request:
        nonlocal asked
        asked += 1
        return Request.STOP if asked == 3 else Request.NOTHING

    if case.resumes:
        try:
            train(job, Notes(), request=stop)
        except Ended:
            _note_checkpoint(case, folder)
        finally:
            groups._release_process_group_references()
    notes = Notes()
    try:
        train(job, notes)
    finally:
        groups._release_process_group_references()
    assert not case.resumes or dist.get_rank() or "resumes from" in "".join(notes.lines), notes
