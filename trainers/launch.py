"""Run a training job: on a Ray Train worker group, or alone in this process.

Failures have classes. A lost worker or node is retried from the last checkpoint within a budget; an
error of the program or the user stops the run at once, since it would only come again.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist

from cluster.errors import InfrastructureError, RaymillError
from cluster.pipeline import StageJob
from cluster.progress import Progress, relayed
from trainers.config import Training
from trainers.journal import Kept
from trainers.loop import Report, TrainJob, train
from trainers.tasks import Task

COMMUNICATION = (
    "gloo",
    "nccl",
    "connection closed",
    "connection reset",
    "broken pipe",
    "timed out",
)


def is_retryable(error: BaseException) -> bool:
    """Whether a worker failed by losing another one, not by an error of its own. Pure."""
    text = f"{type(error).__name__}: {error}".lower()
    return not isinstance(error, RaymillError) and any(word in text for word in COMMUNICATION)


def fit_stage(job: StageJob, task: Task, settings: Training) -> dict[str, Any]:
    """Trains the model that a stage makes, with checkpoints until it is made."""
    stage, trackers = type(settings).__name__.lower(), tuple(job.recipe.cluster.trackers)
    kept = Kept(job.recipe.name, stage, job.draft, time.time(), trackers)
    training = TrainJob(task, settings, job.recipe.seed, job.draft, kept)
    return fit(training, job.progress, job.recipe.cluster.max_failures)


def fit(
    job: TrainJob, progress: Progress, max_failures: int, in_tune_trial: bool = False
) -> dict[str, Any]:
    """Trains a job: one worker as a Ray task, several as a Ray Train worker group. In a Tune trial,
    evaluations are reported to it.

    Raises what the training raised, or InfrastructureError when workers were lost too often.
    """
    if job.settings.workers == 1:
        return fit_all([job], progress, max_failures)[0]
    import ray.train
    import ray.train.torch

    callbacks: list[Any] = []
    if in_tune_trial:
        from ray.tune.integration.ray_train import TuneReportCallback

        callbacks.append(TuneReportCallback())
    settings = job.settings
    resources: dict[str, float] = {"CPU": settings.cpus_per_worker}
    if settings.gpus_per_worker:
        resources["GPU"] = settings.gpus_per_worker
    with relayed(progress) as relay, tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        verdict: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Verdict).remote()  # type: ignore[attr-defined]
        trainer = ray.train.torch.TorchTrainer(
            _worker,  # type: ignore[arg-type]
            train_loop_config={
                "job": job,
                "progress": relay,
                "verdict": verdict,
                "report": ray.train.report if in_tune_trial else None,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=settings.workers,
                use_gpu=settings.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            # raymill keeps its own checkpoints; Ray Train has nothing to store but its own state.
            run_config=ray.train.RunConfig(
                storage_path=folder,
                callbacks=callbacks,
                failure_config=ray.train.FailureConfig(max_failures=max_failures),
            ),
        )
        progress.line(f"starting {settings.workers} workers")
        try:
            outcome = interruptible(trainer.fit).return_value
        except ray.train.TrainingFailedError as error:
            raise ray.get(verdict.get.remote()) or _gave_up(max_failures, error) from error
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def alone(job: TrainJob, progress: Progress, report: Report | None = None) -> dict[str, Any]:
    """Trains in this process, as the only worker."""
    if not dist.is_initialized():
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return train(job, progress, report)


class _Verdict:
    """An actor that remembers the error that retrying cannot mend."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def set(self, error: Exception) -> None:
        self._error = self._error or error

    def get(self) -> Exception | None:
        return self._error


def _worker(config: dict[str, Any]) -> dict[str, Any] | Exception:
    """One rank.

    Ray Train retries whatever a rank raises, and knows no error that should end the run; so a group
    that is started after such an error ends at once, with the error as its result.
    """
    import ray

    verdict = config["verdict"]
    fatal = ray.get(verdict.get.remote())
    if fatal is not None:
        return fatal
    try:
        return train(config["job"], config["progress"], config["report"])
    except Exception as error:  # of any kind: only sorted here, and raised again
        if not is_retryable(error):
            ray.get(verdict.set.remote(error))
        raise  # so that ranks that wait for this one are ended


def interruptible(function: Callable[[], Any]) -> Any:
    """Calls `function` in a thread. Ray Train answers Ctrl-C by itself from the main thread, and
    then goes on as if the run had finished; here it stays a KeyboardInterrupt."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            result.append(function())
        except BaseException as error:  # noqa: BLE001  raised again below
            failure.append(error)

    thread = threading.Thread(target=call, name="fit", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.2)
    if failure:
        raise failure[0]
    return result[0]


def fit_all(
    jobs: Sequence[TrainJob], progress: Progress, max_failures: int
) -> list[dict[str, Any]]:
    """Trains every job; those of one worker side by side, as many as fit, the others in turn."""
    import ray

    if any(job.settings.workers > 1 for job in jobs):
        return [fit(job, progress, max_failures) for job in jobs]
    with relayed(progress) as relay:
        waiting = []
        for job in jobs:
            wanted = job.settings.resources
            task = ray.remote(
                num_cpus=wanted["CPU"], num_gpus=wanted.get("GPU", 0), max_retries=max_failures
            )(alone)
            waiting.append(task.remote(job, relay))
        try:
            return ray.get(waiting)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the worker or its node is gone
            raise _gave_up(max_failures, error) from error


def _gave_up(max_failures: int, error: Exception) -> InfrastructureError:
    return InfrastructureError(
        f"training gave up: workers were lost more than cluster.max_failures = {max_failures} "
        f"times; the last checkpoint is kept, run again to go on\n{error}"
    )
