"""Trainings of adapters on real DeepSpeed engines, in a world of two processes over gloo.

All cases share one start of the two processes.
"""

import dataclasses
import os
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import groups

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.adapters import Toy
from tests.fakes import Notes
from tests.integration import processes
from trainers.engine.job import TrainJob
from trainers.engine.loop import train
from trainers.engine.stop_requests import Request
from trainers.tasks.classify.spec import Classify

SEED = 17


@dataclasses.dataclass(frozen=True)
class Case:
    """A training of four steps, which leaves a checkpoint after its first one."""

    kind: str
    method: Mapping[str, Any]
    stage: int
    precision: str = "fp32"
    goes_on: "Case | None" = None
    """From whose checkpoint; else it begins anew."""
    base: "Case | None" = None
    """Whose model it starts from; else from that of its kind."""

    @property
    def name(self) -> str:
        keys = "-".join(f"{key}={value}" for key, value in self.method.items() if key != "name")
        kind = "further" if self.base else self.kind
        return f"{kind}-{self.method['name']}-{keys}-{self.precision}-zero-{self.stages}"

    @property
    def stages(self) -> str:
        """Of ZeRO, one after another."""
        before = "" if self.goes_on is None else f"{self.goes_on.stages}-"
        return f"{before}{self.stage}"

    @property
    def first(self) -> "Case":
        """The one that began anew."""
        return self if self.goes_on is None else self.goes_on.first

    @property
    def settings(self) -> Classify:
        return Classify.model_validate(
            {
                "method": self.method,
                "workers": 2,
                "batch_size": 8,
                "micro_batch_size": 4,
                "epochs": 2,
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
    processes.gate_in_own_process()
    for case in cases:
        try:
            _trained(case, folder)
        except Exception:  # noqa: BLE001  told by the test of this case
            (folder / f"{case.name}.{rank}.error").write_text(traceback.format_exc())
    dist.destroy_process_group()


def _trained(case: Case, folder: Path) -> None:
    start = folder / case.kind if case.base is None else folder / case.base.draft(folder).place
    task = Toy(str(start), str(folder / case.kind), case.kind)
    draft, notes, requests = case.draft(folder), Notes(), [Request.SAVE]
    if case.goes_on is not None:
        dist.barrier()
        left = folder / case.goes_on.draft(folder).work
        assert left.is_dir(), f"{case.goes_on.name} has left no checkpoint"
        if dist.get_rank() == 0:
            shutil.copytree(left, folder / draft.work)
        dist.barrier()
    try:
        train(
            TrainJob(lambda: task, case.settings, SEED, draft),
            notes,
            request=lambda: requests.pop() if requests else Request.NOTHING,
        )
    finally:
        groups._release_process_group_references()
    is_told = "resumes from" in "".join(notes.lines)
    assert dist.get_rank() or is_told == (case.goes_on is not None), notes.lines
