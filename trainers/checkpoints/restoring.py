"""Resumes from the last good checkpoint, at any number of workers."""

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
    """Loads the last good checkpoint into the engine, on every rank, and tells which it passes over
    and why. Nothing may be saved meanwhile. Raises InfrastructureError."""
    storage, work = draft.storage, draft.work
    names: list[Any] = [None]
    if dist.get_rank() == 0:
        with as_storage_failure(
            storage.root, f"the checkpoints in {work} cannot be looked through"
        ):
            names = [records.delete_unfinished(storage, work)]
    dist.broadcast_object_list(names, src=0)
    passed_over: list[str] = []
    for name in names[0]:
        local, content, reason = None, None, None
        try:
            record = records.read_record(storage, f"{work}/{name}")
            local = storage.local(f"{work}/{name}")
            content = _read(engine, local, record)
        except (Unreadable, ValueError, FileNotFoundError) as error:
            reason = str(error)
        except OSError as error:
            if not storage.is_local:  # a store that does not answer says nothing of the checkpoint
                raise storage_failure(error, storage.root, f"{name} cannot be read") from error
            reason = str(error)
        reason = first_reason(reason)
        if local is not None:
            storage.forget(local)
        if reason is None:
            assert content is not None
            _load(engine, content, record)
            _tell(progress, f"resumes from checkpoint {name}{_changes(engine, record)}")
            return Restored(record.state, passed_over)
        _tell(progress, f"checkpoint {name} is passed over: {reason}")
        passed_over.append(name)
    return Restored(None, passed_over)


class _Content(NamedTuple):
    fragments: list[dict[str, Tensor]]
    """For each of this rank's, in order: kind to tensor."""
    buffers: dict[str, Tensor]


def _read(engine: Any, folder: Path, record: Record) -> _Content:
    """All that this rank needs. Raises Unreadable, or OSError; the engine is not touched."""
    # Each node has its copy, and each rank of a node verifies a share of it.
    rank, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    for file in sorted(record.files)[rank % ranks :: ranks]:
        if not (folder / file).exists():
            raise Unreadable(f"{file} is missing")
        if Storage(str(folder)).sha256(file) != record.files[file]["sha256"]:
            raise Unreadable(f"{file} is damaged")
    parts = Parts(folder / file for file in record.files)
    fragments = [
        {
            kind: parts.read(kind, one.name, one.start, one.elements, one.columns)
            for kind in parts.kinds(one.name) | {WEIGHT}  # which must be there
        }
        for one in optimizer_fragments.fragments(engine)
    ]
    sizes = {name: one.numel() for name, one in optimizer_fragments.buffers(engine).items()}
    buffers = {name: parts.read(BUFFER, name, 0, size) for name, size in sizes.items()}
    return _Content(fragments, buffers)


def _load(engine: Any, content: _Content, record: Record) -> None:
    fragments = optimizer_fragments.fragments(engine, writes=True)
    for fragment, tensors in zip(fragments, content.fragments, strict=True):
        for kind, value in tensors.items():
            optimizer_fragments.write(engine, fragment, kind, value)
    for name, buffer in optimizer_fragments.buffers(engine).items():
        buffer.copy_(content.buffers[name].view_as(buffer))
    if record.loss_scale:
        vars(engine.optimizer.loss_scaler).update(record.loss_scale)


def _changes(engine: Any, record: Record) -> str:
    """What differs from the run that wrote it, in words."""
    workers, stage = dist.get_world_size(), int(engine.zero_optimization_stage())
    tp_size = optimizer_fragments.tensor_parallel_size(engine)
    changes = []
    if record.workers != workers:
        changes.append(f"from {record.workers} to {workers} workers")
    if record.zero_stage != stage:
        changes.append(f"from ZeRO stage {record.zero_stage} to {stage}")
    if record.tensor_parallel != tp_size:
        changes.append(f"from tensor_parallel {record.tensor_parallel} to {tp_size}")
    return f", resharded {' and '.join(changes)}" if changes else ""


def _tell(progress: Progress, line: str) -> None:
    if dist.get_rank() == 0:
        progress.line(line)
