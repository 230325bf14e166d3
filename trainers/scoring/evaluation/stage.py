"""The stage `evaluate`: a task model on the untouched test split, and what stands beside it.

Beside the model's own figures: the task's baselines, such as character n-grams, and the base where
it can answer, each with a paired test; the same model and settings from random weights, so that the
worth of pretraining is a figure; and both over several seeds, with intervals.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.lazy_import import lazy_import
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Silent
from cluster.store.artifacts import BASE, Artifact, Draft
from trainers.corpora.examples.stage import rows_in
from trainers.engine.job import TrainJob
from trainers.finetune import describe_model, task
from trainers.launch.failures import results
from trainers.launch.training import Limits, fit_all
from trainers.scoring.answers import Row
from trainers.scoring.evaluation.evaluate import LEFT_OUT, TEST, evaluated, write
from trainers.scoring.evaluation.figures import (
    compared,
    figures,
    sliced,
    tally_of,
    with_intervals,
)
from trainers.scoring.evaluation.paired import same_rows
from trainers.scoring.evaluation.records import KNOWN
from trainers.scoring.evaluation.score_rows import Records, records_of
from trainers.scoring.evaluation.text import number, with_interval
from trainers.scoring.model import model_of, unpublished
from trainers.scoring.reference import with_reference
from trainers.scoring.workers import Room
from trainers.tasks.spec import REFERENCE, TaskSection


def run(job: StageJob) -> dict[str, Any]:
    settings: TaskSection = job.recipe.finetune
    examples, model = job.parents["examples"], job.parents["finetune"]
    baselines = _begun(settings, examples)
    rows = with_reference(rows_in(examples, TEST), job.parents.get(REFERENCE))
    room = Room.as_in_training(settings, job.resources)
    asked = dataclasses.replace(model_of(model), answering=settings.answering)
    scored, left_out = records_of(asked, rows, room, job.progress, job.draft)
    evaluation = {**evaluated(settings, scored, TEST), LEFT_OUT: left_out}
    job.progress.line(f"test: {_describe(settings, evaluation[TEST])} ({len(scored):,} rows)")
    kinds = {"pretrained": list(range(1, settings.evaluation.seeds))}
    if settings.evaluation.without_pretraining:
        kinds["scratch"] = list(range(settings.evaluation.seeds))
    values = _train_further(job, kinds, rows)
    evaluation["against"] = {}
    if settings.compares_base:
        job.progress.line("test: the base answers the same rows")
        of_base = records_of(asked.base, rows, room, job.progress, job.draft, BASE).records
        _put_beside(job, evaluation, scored, BASE, of_base)
    for name, running in baselines.items():
        _put_beside(job, evaluation, scored, name, results(running))
    values["pretrained"].insert(0, evaluation[TEST][settings.headline])
    if settings.evaluation.seeds > 1 or settings.evaluation.without_pretraining:
        evaluation["seeds"] = over_seeds(values, settings.metrics[settings.headline].mode)
        for kind, each in evaluation["seeds"].items():
            job.progress.line(f"{kind}: {settings.headline} {_mean(each)}")
    about = f"{model.id} on its test split"
    write(job.draft, settings, evaluation, scored, TEST, about)
    return evaluation


def _put_beside(
    job: StageJob, evaluation: dict[str, Any], scored: Records, name: str, known: Records
) -> None:
    """Adds the figures of records that are known of rows of the split, perhaps of a part of it
    alone, and a paired test of the model's records, which are `scored`, against them."""
    settings: TaskSection = job.recipe.finetune
    ours, theirs = same_rows(scored, known)
    assert len(theirs) == len(known), "a baseline has a row that is not in the split"
    of_baseline = described(theirs, ours)
    tally = tally_of(settings, of_baseline)
    evaluation[name] = {
        **with_intervals(settings, of_baseline, tally),
        **sliced(of_baseline, tally),
    }
    evaluation["against"][name], *_ = compared(settings, ours, of_baseline)
    job.progress.line(f"{name}: {_describe(settings, evaluation[name])}")
    better = warning(settings, name, evaluation["against"][name]["metrics"])
    if better is not None:
        job.progress.line(better)


def _begun(settings: TaskSection, examples: Artifact) -> dict[str, Any]:
    """The task's baselines, counted beside the rest, which leaves a core idle now and then. By its
    own environment not in the process of the last training, which has all imported that the next
    one needs."""
    import ray

    beside: Any = functools.partial(
        ray.remote, num_cpus=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}
    )
    return {
        name: beside()(lazy_import(target)).remote(settings, examples)
        for name, target in settings.baselines.items()
    }


def described(of_baseline: Records, ours: Records) -> Records:
    """With the groups of their rows and what else these are sliced by, which the model's records of
    the same rows have. Pure."""
    return [
        {**{name: value for name, value in one.items() if name not in KNOWN}, **record}
        for record, one in zip(of_baseline, ours, strict=True)
    ]


def warning(
    settings: TaskSection, baseline: str, differences: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Told where a baseline is better by the headline metric, beyond chance; `differences` are the
    model's from it. Pure."""
    metric, of = settings.metrics[settings.headline], differences[settings.headline]
    lowest, highest = of["interval"]
    if not (highest < 0 if metric.mode == "max" else lowest > 0):
        return None
    by = number(abs(of["difference"]), sorted(map(abs, of["interval"])))
    return (
        f"warning: {baseline} has a better {metric.title} than the model, by {by}: train for "
        "longer or on more rows, search the learning rate by tune, or start from a base"
    )


def over_seeds(values: dict[str, list[float]], mode: str) -> dict[str, Any]:
    """Means with intervals of the headline metric by kind, and of the gain from pretraining, paired
    by seed: over 0 where it is worth something, whether more of the metric is better (`max`) or
    less. Pure."""
    means: dict[str, Any] = {
        kind: {"values": of_kind, **mean_of(of_kind)} for kind, of_kind in values.items() if of_kind
    }
    if values.get("scratch"):
        pairs = zip(values["pretrained"], values["scratch"], strict=True)
        sign = 1 if mode == "max" else -1
        gains = [sign * (with_it - without) for with_it, without in pairs]
        means["gain from pretraining"] = {"values": gains, **mean_of(gains)}
    return means


def mean_of(values: list[float]) -> dict[str, float]:
    """Mean and the half-width of its 95 % confidence interval (Student's t). Pure."""
    from scipy import stats

    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean}
    error = statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "half_width_95": error * float(stats.t.ppf(0.975, len(values) - 1))}


def _train_further(
    job: StageJob, kinds: dict[str, list[int]], rows: Sequence[Row]
) -> dict[str, list[float]]:
    """The headline metric on rows of the test split of further fine-tunings, by kind, in the order
    of their seeds."""
    recipe: Recipe = job.recipe
    settings: TaskSection = recipe.finetune
    wanted = [(kind, seed) for kind, seeds in kinds.items() for seed in seeds]
    name = job.draft.id.replace("/", "-")
    drafts = [Draft(job.storage, f"scratch/{name}-{kind}-{seed}") for kind, seed in wanted]
    trainings = [
        TrainJob(
            functools.partial(task, recipe, job.parents, scratch=kind == "scratch"),
            settings,
            recipe.seed + seed,
            draft,
        )
        for (kind, seed), draft in zip(wanted, drafts, strict=True)
    ]
    headlines: dict[str, list[float]] = {kind: [] for kind in kinds}
    try:
        made = fit_all(trainings, job.progress, Limits.of(recipe.cluster))
        for draft, metrics in zip(drafts, made, strict=True):
            describe_model(draft, recipe, job.parents, metrics)
        room = Room.as_in_training(settings, job.resources)
        for (kind, _), draft in zip(wanted, drafts, strict=True):
            scored = records_of(unpublished(draft, settings), rows, room, Silent()).records
            headlines[kind].append(figures(settings, scored)[settings.headline])
            job.storage.delete(draft.work)
    finally:
        for draft in drafts:
            draft.discard()
    return headlines


def _describe(settings: TaskSection, computed: dict[str, Any]) -> str:
    known = settings.metrics
    return ", ".join(
        f"{known[name].title} {with_interval(computed, name)}" for name in settings.test_metrics
    )


def _mean(of: dict[str, Any]) -> str:
    if "half_width_95" not in of:
        return f"{of['mean']:.4f}"
    return f"{of['mean']:.4f} ± {of['half_width_95']:.4f} (95 %, {len(of['values'])} seeds)"
