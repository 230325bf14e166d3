"""What to do when a training fails: the same again, again with less memory, or nothing. Pure.

Failures have classes. A lost worker, its node, or the connection to it: again from the last
checkpoint, within a budget for each hour, so that a month survives a failure a day, but a loop of
crashes ends. Memory that gave out: again with half the micro-batch, which leaves the gradient as it
is. One that ended because its node was announced to go: again, and no failure. An error of the
program or the user ends the run at once, since it would only come again.
"""

import collections
import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster.errors import InfrastructureError, RaymillError
from trainers.engine.job import Ended, TrainJob

HOUR_S = 3600.0
COMMUNICATION = (
    "gloo",
    "nccl",
    "connection closed",
    "connection reset",
    "broken pipe",
    "timed out",
)
MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
)
"""As CUDA and its libraries, and torch's, C's and C++'s allocators of the CPU say it."""


class Kind(enum.Enum):
    LOST = "lost"
    MEMORY = "memory"
    ENDED = "ended"
    MISTAKE = "mistake"


@dataclasses.dataclass(frozen=True)
class Failure:
    kind: Kind
    error: BaseException
    """Of the errors of all workers the one that tells the cause."""


def failure(error: BaseException) -> Failure:
    """What a failed attempt comes down to.

    A rank that dies makes the others fail in any way, so their errors count for nothing beside its
    death: what was an error of the program comes again, without a death. What Ray Train itself
    trips over is none of the program.
    """
    import ray.train

    errors = _causes(error)
    is_rays_own = isinstance(error, ray.train.ControllerError)
    for kind, wanted in (
        (Kind.MISTAKE, lambda found: isinstance(found, RaymillError)),
        (Kind.MEMORY, _is_memory),
        (Kind.LOST, _is_death),
        (Kind.ENDED, lambda found: isinstance(found, Ended)),
        (Kind.MISTAKE, lambda found: not (is_rays_own or _is_communication(found))),
    ):
        found = next(filter(wanted, errors), None)
        if found is not None:
            return Failure(kind, found)
    return Failure(Kind.LOST, errors[0])


def results(references: Any) -> Any:
    """What Ray tasks return. Where one failed, raises its own error, or InfrastructureError if its
    process was lost."""
    import ray

    try:
        return ray.get(references)
    except ray.exceptions.RayError as error:
        found = failure(error)
        if found.kind is not Kind.LOST:
            raise found.error from error
        raise InfrastructureError(
            f"a process was lost ({_first_line(found.error)}); run it again"
        ) from error


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


def _is_memory(error: BaseException) -> bool:
    import ray.exceptions

    if isinstance(error, (MemoryError, ray.exceptions.OutOfMemoryError)):
        return True
    # torch.OutOfMemoryError is a RuntimeError, as is what its allocator of the CPU raises.
    return isinstance(error, (RuntimeError, OSError)) and any(
        word in str(error).lower() for word in MEMORY
    )


def _is_death(error: BaseException) -> bool:
    import ray.exceptions

    from cluster.ray.train_internals import WorkerHealthCheckTimeoutError

    return isinstance(error, (ray.exceptions.RayError, WorkerHealthCheckTimeoutError))


def _is_communication(error: BaseException) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    return any(word in text for word in COMMUNICATION)


class Patience(NamedTuple):
    """How long a training waits for nodes with room for its workers."""

    minutes: float
    workers: int
    each: Mapping[str, float]
    """What a worker holds."""

    def is_over(self) -> InfrastructureError:
        """What then ends the training."""
        each = " and ".join(f"{amount:g} {name}s" for name, amount in self.each.items())
        return InfrastructureError(
            "training gave up: no node had room for its workers within "
            f"cluster.wait_for_node_minutes = {self.minutes:g}; the last checkpoint is kept: bring "
            f"back nodes with room for {self.workers} x {each} and run again, or set more minutes"
        )


class Attempts:
    """The failures of one training so far, and what they allow."""

    def __init__(self, max_failures_per_hour: int):
        self._allowed = max_failures_per_hour
        self._lost: collections.deque[float] = collections.deque()

    def after(self, error: BaseException, job: TrainJob, now_s: float) -> tuple[TrainJob, str]:
        """The job to go on with, and what to tell the user. Raises what ends the training."""
        found = failure(error)
        match found.kind:
            case Kind.MISTAKE:
                raise found.error from error
            case Kind.MEMORY:
                return self._with_less_memory(found.error, job)
            case Kind.LOST:
                return job, self._spent(found.error, now_s)
            case Kind.ENDED:
                return job, "its node is about to go; goes on elsewhere"

    def _spent(self, error: BaseException, now_s: float) -> str:
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

    def _with_less_memory(self, error: BaseException, job: TrainJob) -> tuple[TrainJob, str]:
        settings = job.settings
        # A worker's share of the batch may be less than it could take at once.
        used = min(settings.micro_batch_size, -(-settings.batch_size // settings.least_dp_size))
        if used == 1:
            raise InfrastructureError(
                "training gave up: memory is too small for micro_batch_size 1 as well; "
                "set activation_checkpointing: true, a higher zero.stage, more workers or a "
                f"smaller model\n{error}"
            ) from error
        return with_micro_batch(job, used // 2), (
            f"out of memory ({_first_line(error)}); goes on from the last checkpoint with "
            f"micro_batch_size {used // 2} in place of {used}, the same batch"
        )


def with_micro_batch(job: TrainJob, size: int) -> TrainJob:
    """The job with at most so many sequences at once; nothing it learns changes by it."""
    smaller = min(size, job.settings.micro_batch_size)
    settings = job.settings.model_copy(update={"micro_batch_size": smaller})
    return dataclasses.replace(job, settings=settings)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
