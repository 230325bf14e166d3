"""Trainings that worlds of 1 to 4 processes over gloo hand on to each other by checkpoints.

All ten processes start once.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import groups

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from tests.integration import processes
from trainers.checkpoints.restoring import restore
from trainers.checkpoints.saving import Checkpoints
from trainers.engine import loop, zero
from trainers.engine.job import Ended, TrainJob
from trainers.engine.loop import train
from trainers.engine.stop_requests import Request
from trainers.engine.training_config import Training
from trainers.tasks.task import Batch, Objective, Task

SEED = 17
WORLDS = [(workers, rank) for workers in (1, 2, 3, 4) for rank in range(workers)]
TIMEOUT_S = 900


@dataclasses.dataclass(frozen=True)
class Leg:
    settings: Training
    steps: int | None = None
    """After which it is ended; None goes to the end, and 0 only loads and saves again."""


@dataclasses.dataclass(frozen=True)
class Relay:
    task: Task
    legs: Sequence[Leg]


def run(relays: Mapping[str, Relay], folder: Path) -> None:
    processes.run(_process, (relays, folder), len(WORLDS))


def steps(folder: Path, relay: str) -> list[dict[str, Any]]:
    """What all ranks together did in each step: its number, the samples' hashes, the mean loss."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in folder.glob(f"{relay}-leg-*.jsonl"):
        for line in path.read_text().splitlines():
            share = json.loads(line)
            found.setdefault(share["step"], []).append(share)
    return [
        {
            "step": step,
            "samples": sorted(sample for share in shares for sample in share["samples"]),
            "loss": sum(share["loss"] for share in shares),
        }
        for step, shares in sorted(found.items())
    ]


def progress_lines(folder: Path, relay: str) -> list[str]:
    """The progress lines of rank 0 of each leg, in order."""
    paths = sorted(folder.glob(f"{relay}-leg-*.lines"))
    return [line for path in paths for line in path.read_text().splitlines()]


def draft(folder: Path, relay: str) -> Draft:
    return Draft(Storage.at(str(folder)), f"model/{relay}")


def _process(number: int, relays: Mapping[str, Relay], folder: Path) -> None:
    workers, rank = WORLDS[number]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    os.environ["LOCAL_WORLD_SIZE"] = str(workers)
    store = dist.FileStore(str(folder / f"world-of-{workers}"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    torch.set_num_threads(1)
    processes.gate_in_own_process()
    for name, relay in relays.items():
        for place, leg in enumerate(relay.legs):
            if leg.settings.workers == workers:
                _wait_for(folder / f"{name}-leg-{place - 1}.done", place > 0)
                _run(name, relay.task, place, leg, folder)
                groups._release_process_group_references()  # a worker has but one training
                dist.barrier()
                (folder / f"{name}-leg-{place}.done").touch()
    dist.destroy_process_group()


def _wait_for(path: Path, wanted: bool) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while wanted and not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def _run(name: str, task: Task, place: int, leg: Leg, folder: Path) -> None:
    job = TrainJob(lambda: task, leg.settings, SEED, draft(folder, name))
    notes = Notes()
    if leg.steps == 0:
        _load_and_save(job, draft(folder, f"{name}-again-{place}"), notes)
    else:
        with _recorded(folder / f"{name}-leg-{place}-{dist.get_rank()}.jsonl") as shares:
            try:
                train(job, notes, request=lambda: _request(len(shares) + 1 == leg.steps))
            except Ended:
                assert leg.steps is not None
    if dist.get_rank() == 0:
        (folder / f"{name}-leg-{place}.lines").write_text("\n".join(notes.lines) + "\n")


def _request(stops: bool) -> Request:
    # One rank is enough.
    return Request.STOP if stops and dist.get_rank() == 0 else Request.NOTHING


def _load_and_save(job: TrainJob, again: Draft, notes: Notes) -> None:
    task = job.task()
    engine = zero.engine(Objective(task.model(), task), job.settings)
    assert job.draft is not None
    state = restore(engine, job.draft, notes).state
    assert state is not None
    with Checkpoints(engine, again, 2, notes) as checkpoints:
        checkpoints.save(state)


def _samples(batch: Batch) -> Iterator[str]:
    """The hash of every sample, whatever it is packed or padded with."""
    numbered = batch["segments"] if "segments" in batch else batch["attention_mask"]
    for ids, segments in zip(batch["input_ids"], numbered, strict=True):
        for number in range(1, int(segments.max()) + 1):
            tokens = ids[segments == number]
            yield hashlib.sha256(tokens.numpy().tobytes()).hexdigest()[:16]


@contextlib.contextmanager
def _recorded(path: Path):
    """What this rank does in each step, by wrapping the loop's own."""
    step, at = loop._step, loop.Batches.at
    shares: list[Any] = []

    def recorded_at(batches: Any, start: int, is_last: bool = False) -> Any:
        share, waited = at(batches, start, is_last)
        shares.append(share)
        return share, waited

    def recorded_step(
        engine: Any, job: Any, topology: Any, batches: Any, state: Any, *others: Any
    ) -> float:
        loss = step(engine, job, topology, batches, state, *others)
        share = shares[-1]
        samples = [
            sample
            for batch, weight in share.micro_batches
            if weight and topology.is_first_of_group
            for sample in _samples(batch)
        ]
        done = {"step": state.step, "samples": samples, "loss": loss}
        with path.open("a") as stream:
            stream.write(json.dumps(done) + "\n")
        return loss

    loop._step, loop.Batches.at = recorded_step, recorded_at  # type: ignore[assignment,method-assign]
    try:
        yield shares
    finally:
        loop._step, loop.Batches.at = step, at  # type: ignore[method-assign]
