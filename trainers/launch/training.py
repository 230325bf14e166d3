"""Run a training job: on a Ray Train worker group, or alone in a process.

A failed attempt is followed by another one from the last checkpoint, where `failures` says so. Ray
Train itself retries nothing: it knows no classes of failure, and counts them without a clock.
"""

import concurrent.futures
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster.ray.signals import call_in_thread, waited_for
from cluster.ray.stop_requests import StopFlag, stop_flag
from cluster.recipe.section import WAIT_FOR_NODE_MINUTES, ClusterSection
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Progress, Relayed, relayed
from trainers.engine.job import JournalConfig, Report, TrainJob
from trainers.engine.stop_requests import (
    REQUESTS,
    Request,
    RequestSource,
    announced_end_of_node,
    no_request,
)
from trainers.engine.training_config import Training
from trainers.launch.elastic import Following
from trainers.launch.failures import Attempts
from trainers.launch.waiting import INTERVAL_S, WaitForNodes

if TYPE_CHECKING:
    from trainers.tasks.task import Task

GRACE_S = 25.0
"""After Ctrl-C or a signal: for the step that is under way, and a checkpoint behind it. Kubernetes
leaves 30 by default."""
NO_CHECKPOINT = f"no further checkpoint within {GRACE_S:g} s; the last one counts"
NO_ANSWER = "no further checkpoint, the cluster does not answer; the last one counts"
RESIZE_INTERVAL_S = 60.0
"""How often an elastic group looks for room for more workers."""


def fit_stage(job: StageJob, task: Callable[[], "Task"], settings: Training) -> dict[str, Any]:
    """Trains the model that a stage makes, with checkpoints until it is made."""
    trackers = tuple(job.recipe.cluster.trackers)
    journal = JournalConfig(job.recipe.name, time.time(), trackers)
    training = TrainJob(task, settings, job.recipe.seed, job.draft, journal)
    return fit_all([training], job.progress, Limits.of(job.recipe.cluster))[0]


class Limits(NamedTuple):
    """How long a training goes on through failures."""

    max_failures_per_hour: int = 0
    wait_for_node_minutes: float = WAIT_FOR_NODE_MINUTES

    @classmethod
    def of(cls, cluster: ClusterSection) -> "Limits":
        return cls(cluster.max_failures_per_hour, cluster.wait_for_node_minutes)

    def wait(self, what: str, settings: Training) -> WaitForNodes:
        minutes = self.wait_for_node_minutes
        return WaitForNodes(what, minutes, settings.least_workers, settings.worker_resources)


def fit_all(jobs: Sequence[TrainJob], progress: Progress, limits: Limits) -> list[dict[str, Any]]:
    """Trains every job: those of one worker side by side as Ray tasks, as many as fit; those of
    several workers one after the other, each as a Ray Train worker group.

    Raises what a training raised, or InfrastructureError when workers were lost too often, or no
    node had room for them for too long.
    """
    if not jobs:
        return []
    if any(job.settings.most_workers > 1 for job in jobs):
        return [fit_group(job, progress, limits) for job in jobs]
    return _fit_side_by_side(jobs, progress, limits)


def fit_group(
    job: TrainJob, progress: Progress, limits: Limits, in_tune_trial: bool = False
) -> dict[str, Any]:
    """Trains a job of several workers. In a Tune trial, evaluations are reported to it. Raises what
    `fit_all` does."""
    import ray

    attempts = Attempts(limits.max_failures_per_hour)
    with relayed(progress) as relay, _stoppable(job) as flag:
        while True:
            least, most = job.settings.least_workers, job.settings.most_workers
            progress.line(f"starting {least if least == most else f'{least} to {most}'} workers")
            try:
                wait = limits.wait("training", job.settings)
                attempt = functools.partial(_group, job, relay, flag, wait, in_tune_trial)
                return interruptible(attempt, flag, progress)
            except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
                job, message = attempts.after(error, job, time.monotonic())
                progress.line(message)


def _stoppable(job: TrainJob) -> contextlib.AbstractContextManager[StopFlag | None]:
    """What has no checkpoints would gain nothing by a stop: it is ended at once."""
    return contextlib.nullcontext() if job.draft is None else stop_flag()


def _group(
    job: TrainJob, relay: Relayed, flag: StopFlag | None, wait: WaitForNodes, in_tune_trial: bool
) -> dict[str, Any]:
    """One attempt of a worker group. Raises TrainingFailedError with the errors of its ranks."""
    import ray.train

    from trainers.launch.groups import Torch, Trainer

    settings = job.settings
    least, most = settings.least_workers, settings.most_workers
    workers: Any = most if least == most else (least, most)
    callbacks: list[Any] = [Following(relay, most if least == most else None, wait)]
    if in_tune_trial:
        from ray.tune.integration.ray_train import TuneReportCallback

        callbacks.append(TuneReportCallback())
    report = ray.train.report if in_tune_trial else None
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        trainer = Trainer(
            # Not by `train_loop_config`: that, and all that it imports, goes by the controller too.
            functools.partial(_rank, job, relay, flag, report),  # type: ignore[arg-type]
            torch_config=Torch(_backend(settings)),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=settings.gpus_per_worker > 0,
                resources_per_worker=settings.worker_resources,
                elastic_resize_monitor_interval_s=RESIZE_INTERVAL_S,  # type: ignore[call-arg]
            ),
            # raymill keeps its own checkpoints; Ray Train has nothing to store but its own state.
            run_config=ray.train.RunConfig(storage_path=folder, callbacks=callbacks),
        )
        result: Any = trainer.fit()
        return result.return_value


def _backend(settings: Training) -> str:
    """Of torch.distributed: NCCL for what is on GPUs, gloo for all else. Pure."""
    return "cpu:gloo,cuda:nccl" if settings.gpus_per_worker else "gloo"


def _rank(
    job: TrainJob, relay: Relayed, flag: StopFlag | None, report: Report | None
) -> dict[str, Any]:
    import torch.distributed as dist

    from trainers.engine.loop import train

    def request() -> Request:
        stops = flag is not None and dist.get_rank() == 0 and flag.stop_requested()
        return Request.STOP if stops else REQUESTS.pending()

    try:
        return train(job, relay, report, request)
    finally:
        REQUESTS.ended.set()


def alone(
    job: TrainJob,
    progress: Progress,
    report: Report | None = None,
    request: RequestSource = no_request,
) -> dict[str, Any]:
    """Trains in this process, as the only worker."""
    import torch.distributed as dist

    from trainers.engine.loop import train

    if not dist.is_initialized():
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        backend = _backend(job.settings)
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return train(job, progress, report, request)


def _task(job: TrainJob, relay: Relayed, flag: StopFlag | None) -> dict[str, Any]:
    if flag is None:
        return alone(job, relay)
    with announced_end_of_node() as node_ends:

        def request() -> Request:
            stops = flag.stop_requested() or node_ends.is_set()
            return Request.STOP if stops else Request.NOTHING

        return alone(job, relay, request=request)


def interruptible(
    function: Callable[[], Any], flag: StopFlag | None = None, progress: Progress | None = None
) -> Any:
    """Calls `function` in a thread. Ray Train answers Ctrl-C by itself from the main thread, and
    then goes on as if the run had finished; here it stays a KeyboardInterrupt. Where there is a
    `flag`, the function has a moment to end by itself; a second Ctrl-C ends it."""
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()
    try:
        call_in_thread(function, result)
        return waited_for(result)
    except KeyboardInterrupt:
        if flag is not None and progress is not None:
            _stop(flag, lambda s: bool(concurrent.futures.wait([result], s).done), progress)
        raise


def _stop(flag: StopFlag, ended: Callable[[float], bool], progress: Progress) -> None:
    """Requests a checkpoint and the end of a training, and waits for it; tells where none comes.
    `ended` waits so many seconds, and returns whether the training has ended."""
    from ray.exceptions import RayError

    deadline = time.monotonic() + GRACE_S
    try:
        is_training = flag.request_stop(GRACE_S)
    except RayError:
        progress.line(NO_ANSWER)
        return
    if is_training and not ended(max(0.0, deadline - time.monotonic())):
        progress.line(NO_CHECKPOINT)


def _fit_side_by_side(
    jobs: Sequence[TrainJob], progress: Progress, limits: Limits
) -> list[dict[str, Any]]:
    """Trains jobs of one worker."""
    import ray

    wait = limits.wait("training", jobs[0].settings)
    going_on = list(jobs)
    attempts = [Attempts(limits.max_failures_per_hour) for _ in jobs]
    metrics: dict[int, dict[str, Any]] = {}
    with relayed(progress) as relay, _stoppable(jobs[0]) as flag:
        running = {_start_task(job, relay, flag): number for number, job in enumerate(going_on)}
        try:
            while running:
                ended = _first_ended(list(running), wait, progress)
                number = running.pop(ended)
                try:
                    metrics[number] = ray.get(ended)
                except ray.exceptions.RayError as error:
                    job, message = attempts[number].after(error, going_on[number], time.monotonic())
                    progress.line(message)
                    going_on[number], running[_start_task(job, relay, flag)] = job, number
        except KeyboardInterrupt:
            tasks = list(running)
            if flag is not None and tasks:
                _stop(
                    flag,
                    lambda s: not ray.wait(tasks, num_returns=len(tasks), timeout=s)[1],
                    progress,
                )
            raise
    return [metrics[number] for number in range(len(jobs))]


def _first_ended(running: list[Any], wait: WaitForNodes, progress: Progress) -> Any:
    """Waits for one of these tasks to end. Raises InfrastructureError where no node has had room
    for one for too long."""
    import ray

    while not (ended := ray.wait(running, timeout=INTERVAL_S)[0]):
        wait.count_nodes(progress)
    return ended[0]


def _start_task(job: TrainJob, relay: Relayed, flag: StopFlag | None) -> Any:
    """One attempt of a job of one worker: a Ray task."""
    import ray

    wanted = job.settings.resources
    task: Any = ray.remote(num_cpus=wanted["CPU"], num_gpus=wanted.get("GPU", 0), max_retries=0)(
        _task
    )
    return task.remote(job, relay, flag)
