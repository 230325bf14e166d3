"""Saves a training while it goes on, and goes back to what was saved.

A step pays for a copy of the rank's weights and optimizer state in memory. A thread then writes the
copy to storage; rank 0's waits for the parts of all ranks, through storage and not by a collective,
and writes the record, last.
"""

import copy
import dataclasses
import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
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
        """Called by every rank, as its methods are."""
        self._engine, self._draft, self._kept, self._progress = engine, draft, kept, progress
        token = [uuid.uuid4().hex[:6]]
        dist.broadcast_object_list(token, src=0)
        self._token = token[0]
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._given_up = threading.Event()
        self._passed_over: set[str] = set()
        """Names of checkpoints that are no good."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:  # it may be whole before all ends
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
        """Begins a checkpoint, on all ranks at the same step. Waits for the one before.

        Raises what that failed with.
        """
        self.wait()
        if self._draft is None:
            return
        tensors, rank = optimizer_fragments.copied(self._engine), dist.get_rank()
        record = Record(
            state=copy.deepcopy(state),
            workers=dist.get_world_size(),
            zero_stage=int(self._engine.zero_optimization_stage()),
            tensor_parallel=optimizer_fragments.tensor_parallel(self._engine),
            loss_scale=optimizer_fragments.loss_scale(self._engine),
            files={},
        )
        write, arguments = self._write_and_remember_failure, (self._draft, tensors, record, rank)
        self._thread = threading.Thread(
            target=write, args=arguments, name="checkpoint", daemon=True
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

    def _write_and_remember_failure(
        self, draft: Draft, tensors: Mapping[Key, Tensor], record: Record, rank: int
    ) -> None:
        try:
            self._write(draft, tensors, record, rank)
        except OSError as error:
            self._failure = storage_failure(
                error, draft.storage.root, "a checkpoint cannot be written, the last one is kept"
            )
        except Exception as error:  # noqa: BLE001  raised in the training's own thread
            self._failure = error

    def _write(
        self, draft: Draft, tensors: Mapping[Key, Tensor], record: Record, rank: int
    ) -> None:
        storage, step = draft.storage, record.state.step
        place = f"{draft.work}/{records.step_name(step)}"
        part = records.part_name(self._token, rank, record.workers)
        written = _Hashed(tensors)
        storage.write_pieces(f"{place}/{part}.safetensors", written)
        records.write_seal(storage, place, part, written.sha256, written.size)
        if rank != 0:
            return
        while (files := records.sealed(storage, place, self._token, record.workers)) is None:
            if self._given_up.wait(POLL_S):
                return
        records.write_record(storage, place, dataclasses.replace(record, files=files))
        self._passed_over.discard(records.step_name(step))
        records.prune(storage, draft.work, step, self._kept, self._passed_over)


class _Hashed:
    """The bytes of a part, which are hashed as they are written; as often as writing is tried."""

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
