"""Saves a training while it goes on, and restores it.

A step pays for a copy of the rank's weights and optimizer state in memory. A thread then writes the
copy to storage; rank 0's waits for the parts of all ranks, through storage and not by a collective,
and writes the record, last.
"""

import copy
import dataclasses
import hashlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch.distributed as dist
from torch import Tensor

from cluster.errors import storage_failure
from cluster.runs.progress import Progress
from cluster.store.artifacts import Draft
from trainers.checkpoints import optimizer_fragments, records
from trainers.checkpoints.parts import Key, pieces
from trainers.checkpoints.records import Record
from trainers.checkpoints.restoring import restore
from trainers.checkpoints.state import LoopState

POLL_S = 0.2
PATIENCE_S = 5.0
"""For a checkpoint that is under way when the training fails."""


class Checkpoints:
    """The checkpoints of a training; without a draft there are none. A context: leaving it waits
    for the last one."""

    def __init__(self, engine: Any, draft: Draft | None, kept: int, progress: Progress):
        """Every rank calls it and its methods."""
        self._engine, self._draft, self._kept, self._progress = engine, draft, kept, progress
        token = [uuid.uuid4().hex[:6]]
        dist.broadcast_object_list(token, src=0)
        self._token = token[0]
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._given_up = threading.Event()
        self._passed_over: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None:  # it may be complete before the process ends
            self._thread.join(PATIENCE_S)
            self._given_up.set()

    def restore(self) -> LoopState | None:
        """Goes back to the last good one; None if there is none."""
        self.wait()
        if self._draft is None:
            return None
        restored = restore(self._engine, self._draft, self._progress)
        self._passed_over.update(restored.passed_over)
        return restored.state

    def save(self, state: LoopState) -> None:
        """Begins a checkpoint, on all ranks at the same step, when the one before is complete.

        Raises what that failed with.
        """
        self.wait()
        if self._draft is None:
            return
        record = Record(
            state=copy.deepcopy(state),
            workers=dist.get_world_size(),
            zero_stage=int(self._engine.zero_optimization_stage()),
            tensor_parallel=optimizer_fragments.tensor_parallel_size(self._engine),
            loss_scale=optimizer_fragments.loss_scale(self._engine),
            files={},
        )
        tensors = optimizer_fragments.snapshot(self._engine)
        self._thread = threading.Thread(
            target=self._write,
            args=(self._draft, tensors, record, dist.get_rank()),
            name="checkpoint",
            daemon=True,
        )
        self._thread.start()

    def raise_failure(self) -> None:
        """Raises what a checkpoint has failed with."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """Waits for the checkpoint that is under way, and raises what it failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_failure()

    def _write(
        self, draft: Draft, tensors: Mapping[Key, Tensor], record: Record, rank: int
    ) -> None:
        try:
            self._write_part(draft, tensors, record, rank)
            if rank == 0:
                self._write_record(draft, record)
        except OSError as error:
            self._failure = storage_failure(
                error, draft.storage.root, "a checkpoint cannot be written, the last one is kept"
            )
        except Exception as error:  # noqa: BLE001  raised in the training's own thread
            self._failure = error

    def _write_part(
        self, draft: Draft, tensors: Mapping[Key, Tensor], record: Record, rank: int
    ) -> None:
        part = records.part_name(self._token, rank, record.workers)
        path = f"{draft.work}/{records.step_name(record.state.step)}/{part}"
        content = _Hashed(tensors)
        draft.storage.write_pieces(f"{path}.safetensors", content)
        summary = {"sha256": content.sha256, "bytes": content.size}
        draft.storage.write(f"{path}.json", json.dumps(summary).encode())

    def _write_record(self, draft: Draft, record: Record) -> None:
        storage, step, workers = draft.storage, record.state.step, record.workers
        folder = f"{draft.work}/{records.step_name(step)}"
        while (files := records.complete_parts(storage, folder, self._token, workers)) is None:
            if self._given_up.wait(POLL_S):
                return
        records.write_record(storage, folder, dataclasses.replace(record, files=files))
        self._passed_over.discard(records.step_name(step))
        records.prune(storage, draft.work, step, self._kept, self._passed_over)


class _Hashed:
    """The bytes of a part, hashed as they are written, anew whenever writing is tried again."""

    def __init__(self, tensors: Mapping[Key, Tensor]):
        self._tensors = tensors
        self.sha256, self.size = "", 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        digest, size = hashlib.sha256(), 0
        for piece in pieces(self._tensors):
            digest.update(piece)
            size += len(piece)
            yield piece
        self.sha256, self.size = digest.hexdigest(), size
