"""The stage `tune`: fine-tunings side by side by Ray Tune, the worse ones stopped early.

A trial of one worker trains inside its Tune trial, so that its process is used again by the next.
A trial of several workers is a Ray Train group that its trial starts; as many trials run at once as
whole groups fit, since groups that wait for each other's CPUs wait for ever.
"""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune

from cluster.errors import Diverged, InfrastructureError, UserError
from cluster.ray.ray_internals import HEAD
from cluster.ray.resources import concurrent
from cluster.recipe.loading import override
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Progress, Silent
from trainers.engine.job import TrainJob
from trainers.finetune import task
from trainers.launch.training import Limits, alone, fit_group, interruptible
from trainers.launch.waiting import WaitForNodes
from tuning.config import Tune
from tuning.winner import WINNER, Trial, choose


def run(job: StageJob) -> dict[str, Any]:
    recipe, settings = job.recipe, job.recipe.tune
    metric = settings.metric or recipe.finetune.headline
    mode = recipe.finetune.metrics[metric].mode
    each = recipe.finetune.resources
    at_once = concurrent(each, job.resources, settings.concurrent)
    trials = [Trial(number, values) for number, values in enumerate(settings.drawn(recipe.seed))]
    jobs = [_training(job, override(recipe, {"tune": None, **trial.values})) for trial in trials]
    job.progress.line(f"{len(trials)} trials, {at_once} at a time")
    limits = Limits(wait_for_node_minutes=recipe.cluster.wait_for_node_minutes)
    _search(settings, metric, mode, jobs, trials, each, at_once, limits, job.progress)
    winner = choose(trials, mode)
    if winner is None:
        reasons = {trial.error.splitlines()[-1] for trial in trials if trial.error}
        raise InfrastructureError(
            f"tune: no trial ran to its end: {'; '.join(reasons) or 'all stopped'}"
        )
    job.progress.line(
        f"winner: trial {winner.number}, validation {metric} {winner.curve[-1]:.4f}, "
        + ", ".join(f"{key} {value}" for key, value in winner.values.items())
    )
    with job.draft.folder() as folder:
        for name, content in (
            (WINNER, dataclasses.asdict(winner)),
            ("trials.json", [dataclasses.asdict(trial) for trial in trials]),
        ):
            (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return {
        "trials": len(trials),
        "stopped_early": sum(trial.status == "stopped" for trial in trials),
        "failed": sum(trial.status == "failed" for trial in trials),
        f"best_{metric}": winner.curve[-1],
        "headline": {f"best {recipe.finetune.metrics[metric].title}": winner.curve[-1]},
        "winner": winner.values,
    }


def _training(job: StageJob, recipe: Recipe) -> TrainJob:
    # Of a fixed size: groups that grow would wait for each other.
    settings = recipe.finetune.model_copy(update={"workers": recipe.finetune.least_workers})
    return TrainJob(functools.partial(task, recipe, job.parents), settings, recipe.seed)


def _trial(config: dict[str, Any]) -> None:
    """One trial, in a process of Ray Tune."""
    training: TrainJob = config["jobs"][config["number"]]
    if training.settings.most_workers == 1:
        alone(training, Silent(), tune.report)
    else:
        fit_group(training, Silent(), config["limits"], in_tune_trial=True)


class _Watch(tune.Callback):
    """Follows the trials on the driver: the table of the sweep, and its progress."""

    def __init__(
        self,
        trials: list[Trial],
        metric: str,
        evaluations: int,
        wait: WaitForNodes,
        progress: Progress,
    ):
        self._trials = trials
        self._metric = metric
        self._evaluations = evaluations
        self._wait = wait
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        return {}  # the Tuner pickles itself to be restored some day; a terminal cannot follow

    def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
        """Several times a second. Ray Tune would wait for ever where no node is left."""
        self._wait.count_nodes(self._progress)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        own = self._ours(trial)
        own.status = "running"
        own.seconds = round(result["time_total_s"], 1)
        if self._metric in result:
            own.curve.append(result[self._metric])
            own.loss = result["loss"]
            own.evaluation = result["evaluation"]
            self._show(own)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        own = self._ours(trial)
        own.status = "done" if own.evaluation >= self._evaluations else "stopped"
        curve = " ".join(f"{value:.4f}" for value in own.curve)
        values = ", ".join(f"{key} {value}" for key, value in own.values.items())
        self._progress.line(
            f"trial {own.number} {own.status}: {self._metric} {curve} "
            f"({values}; {own.seconds:.0f} s)"
        )

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        own = self._ours(trial)
        own.status = "failed"
        traceback = Path(trial.error_file).read_text("utf-8").strip() if trial.error_file else ""
        own.error = traceback or "no reason is known"
        self._progress.line(f"trial {own.number} failed: {own.error.splitlines()[-1]}")

    def _ours(self, trial: Any) -> Trial:
        return self._trials[trial.config["number"]]

    def _show(self, own: Trial) -> None:
        ended = sum(trial.status in ("done", "stopped", "failed") for trial in self._trials)
        self._progress.update(
            ended,
            len(self._trials),
            "trials",
            trial=own.number,
            evaluation=len(own.curve),
            **{self._metric: own.curve[-1]},
        )


def _search(
    settings: Tune,
    metric: str,
    mode: str,
    jobs: list[TrainJob],
    trials: list[Trial],
    each: dict[str, float],
    at_once: int,
    limits: Limits,
    progress: Progress,
) -> None:
    """Runs all trials; fills in `trials`. Raises InfrastructureError where no node has had room
    for one for too long."""
    evaluations = jobs[0].settings.evaluations
    wait = limits.wait("search", jobs[0].settings)
    several = jobs[0].settings.most_workers > 1
    # A group's trial only waits for it: on the head, which stays. (Ray Tune wants some resource.)
    trainable = tune.with_resources(_trial, {HEAD: 0.001} if several else each)
    scheduler = (
        tune.schedulers.ASHAScheduler(
            time_attr="evaluation",
            max_t=evaluations,
            grace_period=min(settings.grace, evaluations),
            reduction_factor=settings.reduction,
        )
        if settings.early_stopping
        else None
    )
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        tuner = tune.Tuner(
            trainable,
            param_space={
                "number": tune.grid_search(list(range(len(jobs)))),
                "jobs": jobs,
                "limits": limits,
            },
            tune_config=tune.TuneConfig(
                metric=metric,
                mode=mode,
                scheduler=scheduler,
                max_concurrent_trials=at_once,
                reuse_actors=not several,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                callbacks=[_Watch(trials, metric, evaluations, wait, progress)],
                verbose=0,
            ),
        )
        grid = interruptible(tuner.fit)
    mistake = mistake_of_all(grid.errors)
    if mistake is not None:
        raise mistake


def mistake_of_all(errors: Sequence[BaseException]) -> UserError | None:
    """The user's mistake that every trial runs into, since they differ in numbers only. Pure."""
    for error in errors:
        cause = getattr(error, "cause", error)
        if isinstance(cause, UserError) and not isinstance(cause, Diverged):
            return cause
    return None
