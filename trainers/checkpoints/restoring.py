"""Goes on from the last checkpoint that is whole, at any number of workers."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor

from cluster.errors import as_storage_failure, storage_failure
from cluster.runs.progress import Progress
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from trainers.checkpoints import optimizer_fragments, records
from trainers.checkpoints.optimizer_fragments import BUFFER, WEIGHT
from trainers.checkpoints.parts import Parts, Unreadable
from trainers.checkpoints.records import Record
from trainers.checkpoints.state import LoopState
from trainers.parallel.collectives import first_reason


class Restored(NamedTuple):
    state: LoopState | None
    """None where no checkpoint is good."""
    passed_over: list[str]
    """Names of later ones."""


def restore(engine: Any, draft: Draft, progress: Progress) -> Restored:
    """Loads the last good checkpoint into the engine, on every rank. Those that are passed over are
    told, with the reason. Nothing may be saved meanwhile. Raises InfrastructureError."""
    storage, folder = draft.storage, draft.work
    offered: list[Any] = [None]
    if dist.get_rank() == 0:
        with as_storage_failure(
            storage.root, f"the checkpoints in {folder} cannot be looked through"
        ):
            offered = [records.sweep(storage, folder)]
    dist.broadcast_object_list(offered, src=0)
    passed_over: list[str] = []
    for name in offered[0]:
        local, content, reason = None, None, None
        try:
            record = records.read_record(storage, f"{folder}/{name}")
            local = storage.local(f"{folder}/{name}")
            content = _read(engine, local, record)
        except (Unreadable, ValueError, FileNotFoundError) as error:
            reason = str(error)
        except OSError as error:
            if not storage.is_local:  # it does not answer: that says nothing of the checkpoint
                raise storage_failure(error, storage.root, f"{name} cannot be read") from error
            reason = str(error)
        reason = first_reason(reason)
        if local is not None:
            storage.forget(local)
        if reason is None:
            assert content is not None
            _put(engine, content, record)
            _tell(progress, f"resumes from checkpoint {name}{_changes(engine, record)}")
            return Restored(record.state, passed_over)
        _tell(progress, f"checkpoint {name} is passed over: {reason}")
        passed_over.append(name)
    return Restored(None, passed_over)


class _Content(NamedTuple):
    stretches: list[dict[str, Tensor]]
    """For each that this rank holds, in order: kind to tensor."""
    buffers: dict[str, Tensor]


def _read(engine: Any, local: Path, record: Record) -> _Content:
    """All that this rank needs. Raises Unreadable, or OSError; the engine is not touched."""
    # Each node has its copy, and each rank of a node verifies a share of it.
    rank, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    for file in sorted(record.files)[rank % ranks :: ranks]:
        if not (local / file).exists():
            raise Unreadable(f"{file} is missing")
        if Storage(str(local)).sha256(file) != record.files[file]["sha256"]:
            raise Unreadable(f"{file} is damaged")
    parts = Parts(local / file for file in record.files)
    stretches = []
    for one in optimizer_fragments.held(engine):
        kinds = parts.kinds(one.name) | {WEIGHT}  # which must be there
        stretches.append(
            {
                kind: parts.read(kind, one.name, one.start, one.elements, one.columns)
                for kind in kinds
            }
        )
    names = optimizer_fragments.buffers(engine)
    return _Content(
        stretches, {name: parts.read(BUFFER, name, 0, names[name].numel()) for name in names}
    )


def _put(engine: Any, content: _Content, record: Record) -> None:
    for one, kinds in zip(
        optimizer_fragments.held(engine, writes=True), content.stretches, strict=True
    ):
        for kind, value in kinds.items():
            optimizer_fragments.put(engine, one, kind, value)
    for name, buffer in optimizer_fragments.buffers(engine).items():
        buffer.copy_(content.buffers[name].view_as(buffer))
    optimizer_fragments.set_loss_scale(engine, record.loss_scale)


def _changes(engine: Any, record: Record) -> str:
    """What differs from the run that wrote it, in words."""
    workers, stage = dist.get_world_size(), int(engine.zero_optimization_stage())
    changes = []
    if record.workers != workers:
        changes.append(f"from {record.workers} to {workers} workers")
    if record.zero_stage != stage:
        changes.append(f"from ZeRO stage {record.zero_stage} to {stage}")
    parts = optimizer_fragments.tensor_parallel(engine)
    if record.tensor_parallel != parts:
        changes.append(f"from tensor_parallel {record.tensor_parallel} to {parts}")
    return f", resharded {' and '.join(changes)}" if changes else ""


def _tell(progress: Progress, line: str) -> None:
    if dist.get_rank() == 0:
        progress.line(line)
