"""What to do when a training fails: the same again, again with less memory, or nothing. Pure.

A lost worker, its node, or the connection to it: again from the last checkpoint, within a budget
for each hour, so that a month survives a failure a day, but a loop of crashes ends. Memory that
gave out: again with half the micro-batch, which leaves the gradient as it is. One that ended
because its node was announced to go: again, and no failure. An error of the program or the user
ends the run at once, since it would only come again.
"""

import collections
import dataclasses
import enum
from typing import Any, NamedTuple

from cluster.errors import InfrastructureError, RaymillError
from trainers.engine.job import Ended, TrainJob

HOUR_S = 3600.0
COMMUNICATION_TEXTS = ("gloo", "connection closed", "connection reset", "timed out")
MEMORY_TEXTS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
)
"""As CUDA and its libraries, and torch's, C's and C++'s allocators of the CPU say it."""
HARDWARE_TEXTS = (
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "devices are busy or unavailable",
    "gpu is lost",
    "fallen off the bus",
)
"""As CUDA says of a GPU that gave out: another node may have a sound one."""


class Kind(enum.IntEnum):
    """Of an error. Where the ranks of a group tell of several, the first of these kinds is the
    cause: a rank that dies, or whose memory gives out, makes the others fail in any way."""

    MISTAKE = enum.auto()
    """The user's, or another that raymill itself tells of."""
    MEMORY = enum.auto()
    DEATH = enum.auto()
    """Of a process or a node."""
    ENDED = enum.auto()
    PROGRAM = enum.auto()
    CONNECTION = enum.auto()


class Failure(NamedTuple):
    kind: Kind
    error: BaseException
    """The cause."""

    @property
    def is_loss(self) -> bool:
        return self.kind in (Kind.DEATH, Kind.CONNECTION)


def failure(error: BaseException) -> Failure:
    """What a failed attempt comes down to."""
    import ray.train

    cause = min(_causes(error), key=kind_of)
    kind = kind_of(cause)
    if kind is Kind.PROGRAM and isinstance(error, ray.train.ControllerError):
        kind = Kind.DEATH  # what Ray Train itself trips over is none of the program
    return Failure(kind, cause)


def results(references: Any) -> Any:
    """What Ray tasks return. Where one failed, raises its own error, or InfrastructureError if its
    process was lost."""
    import ray

    try:
        return ray.get(references)
    except ray.exceptions.RayError as error:
        raise cause_of(error) from error


def cause_of(error: BaseException, for_memory: str = "set a smaller max_length") -> BaseException:
    """What to raise in place of an error of Ray: the task's own, or InfrastructureError, which says
    what to do `for_memory` besides giving more of it."""
    kind, cause = failed = failure(error)
    if kind is Kind.MEMORY:
        return InfrastructureError(
            f"a process lacked memory ({_first_line(cause)}); give its node more, or {for_memory}"
        )
    if not failed.is_loss:
        return cause
    return InfrastructureError(f"a process was lost ({_first_line(cause)}); run it again")


def _causes(error: BaseException) -> list[BaseException]:
    """The errors that Ray wraps, of every worker."""
    import ray.exceptions
    import ray.train

    from cluster.ray.train_internals import WorkerHealthCheckFailedError

    match error:
        case ray.train.WorkerGroupError():
            return [cause for one in error.worker_failures.values() for cause in _causes(one)]
        case ray.train.ControllerError():
            return _causes(error.controller_failure)
        case WorkerHealthCheckFailedError():
            return _causes(error.health_check_failure)
        case ray.exceptions.RayTaskError() if isinstance(error.cause, BaseException):
            return _causes(error.cause)
    return [error]


def kind_of(error: BaseException) -> Kind:
    """By the error's type; by its text only where a library raises the same type for everything."""
    import ray.exceptions
    import torch

    from cluster.ray.train_internals import WorkerHealthCheckTimeoutError

    match error:
        case RaymillError():
            return Kind.MISTAKE
        case MemoryError() | ray.exceptions.OutOfMemoryError() | torch.OutOfMemoryError():
            return Kind.MEMORY
        case ray.exceptions.RayError() | WorkerHealthCheckTimeoutError():
            return Kind.DEATH
        case Ended():
            return Kind.ENDED
        case ConnectionError() | TimeoutError():
            return Kind.CONNECTION
    is_collective = isinstance(error, torch.distributed.DistError)
    if is_collective or type(error) in (RuntimeError, OSError, torch.AcceleratorError):
        text = str(error).lower()
        if any(words in text for words in MEMORY_TEXTS):  # which NCCL lacks too
            return Kind.MEMORY
        if any(words in text for words in HARDWARE_TEXTS):
            return Kind.DEATH
        if is_collective or any(words in text for words in COMMUNICATION_TEXTS):
            return Kind.CONNECTION
    return Kind.PROGRAM


class Attempts:
    """The failures of one training so far, and what they allow."""

    def __init__(self, max_failures_per_hour: int):
        self._allowed = max_failures_per_hour
        self._lost: collections.deque[float] = collections.deque()

    def after(self, error: BaseException, job: TrainJob, now_s: float) -> tuple[TrainJob, str]:
        """The job to go on with, and what to tell the user. Raises what ends the training."""
        found = failure(error)
        if found.is_loss:
            return job, self._count_loss(found.error, now_s)
        if found.kind is Kind.ENDED:
            return job, "its node is about to go; goes on elsewhere"
        if found.kind is Kind.MEMORY:
            return _with_less_memory(found.error, job)
        raise found.error from error

    def _count_loss(self, error: BaseException, now_s: float) -> str:
        while self._lost and self._lost[0] <= now_s - HOUR_S:
            self._lost.popleft()
        self._lost.append(now_s)
        if len(self._lost) > self._allowed:
            raise InfrastructureError(
                "training gave up: workers were lost more than cluster.max_failures_per_hour = "
                f"{self._allowed} times; the last checkpoint is kept, run again to go on\n{error}"
            ) from error
        return (
            f"a worker was lost ({_first_line(error)}); goes on from the last checkpoint "
            f"({len(self._lost)} of {self._allowed} failures an hour)"
        )


def _with_less_memory(error: BaseException, job: TrainJob) -> tuple[TrainJob, str]:
    """The job with half as many sequences at once; nothing it learns changes by it."""
    settings = job.settings
    # A worker's share of the batch may be less than it could take at once.
    used = min(settings.micro_batch_size, -(-settings.batch_size // settings.least_dp_size))
    if used == 1:
        raise InfrastructureError(
            "training gave up: memory is too small for micro_batch_size 1 as well; "
            "set activation_checkpointing: true, a higher zero.stage, more workers or a "
            f"smaller model\n{error}"
        ) from error
    smaller = settings.model_copy(update={"micro_batch_size": used // 2})
    return dataclasses.replace(job, settings=smaller), (
        f"out of memory ({_first_line(error)}); goes on from the last checkpoint with "
        f"micro_batch_size {used // 2} in place of {used}, the same batch"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
