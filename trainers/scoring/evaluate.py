"""The stage `evaluate`: a task model on the untouched test split, and what stands beside it.

Beside the model's own figures: a character n-gram logistic regression, as a sanity line; the same
model and settings from random weights, so that the worth of pretraining is a figure; and both over
several seeds, with intervals.
"""

import functools
import json
from typing import Any

from cluster.errors import UserError
from cluster.recipe.loading import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store import artifacts
from cluster.store.artifacts import Artifact, Draft
from trainers.engine.job import TrainJob
from trainers.finetune import classifier, with_winner
from trainers.launch.failures import results
from trainers.launch.training import fit_all
from trainers.models.card import read_card
from trainers.scoring import metrics
from trainers.scoring.ngrams import ngram
from trainers.scoring.score import score, scores


def run(job: StageJob) -> dict[str, Any]:
    import ray

    recipe = with_winner(job.recipe, job.parents)
    evaluation = recipe.finetune.evaluation
    examples, model = job.parents["examples"], job.parents["finetune"]
    # Counted beside the rest, which leaves a core idle now and then. By its own environment not
    # in the process of the last training, which has all imported that the next one needs.
    beside: Any = ray.remote(num_cpus=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})
    counted = beside(ngram).remote(examples) if evaluation.ngram else None
    (figures,) = scores(job, recipe.finetune, [model.id])
    found: dict[str, Any] = {"test": figures}
    job.progress.line(f"test: {_describe(figures)}")
    kinds = {"pretrained": list(range(1, evaluation.seeds))}
    if evaluation.without_pretraining:
        kinds["scratch"] = list(range(evaluation.seeds))
    accuracies = _train_further(job, recipe, kinds)
    if counted is not None:
        found["ngram"] = results(counted)
        job.progress.line(f"character n-grams: {_describe(found['ngram'])}")
    accuracies["pretrained"].insert(0, found["test"]["accuracy"])
    if evaluation.seeds > 1 or evaluation.without_pretraining:
        found["seeds"] = compare(accuracies)
        for kind, figures in found["seeds"].items():
            job.progress.line(f"{kind}: {_interval(figures)}")
    _write(job.draft, found)
    return found


def _write(draft: Draft, found: dict[str, Any]) -> None:
    with draft.folder() as folder:
        (folder / "evaluation.json").write_text(
            json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8"
        )


def evaluate_model(model: Artifact) -> Artifact:
    """The evaluation of a classifier on the test split that its lineage names, made if it is
    missing: what `promote` asks for. Raises UserError."""
    storage, recipe = model.storage, model.manifest.recipe
    examples_id = model.manifest.parents.get("examples")
    examples = examples_id and artifacts.find(storage, examples_id)
    if not examples:
        raise UserError(f"{model.id}: has no labelled test split in its lineage; name its recipe")
    parents = {"examples": examples.id, "finetune": model.id}
    version = artifacts.fingerprint("evaluation", {}, parents)
    evaluation_id = f"evaluation/{recipe}-evaluate-{version}"
    known = artifacts.find(storage, evaluation_id)
    if known is not None:
        return known
    found = {"test": score(storage, model.id, examples, read_card(model.path)["max_length"])}
    with artifacts.drafting(storage, evaluation_id) as draft:
        _write(draft, found)
        return draft.publish(
            recipe=recipe, stage="evaluate", parents=parents, inputs={}, metrics=found
        )


def compare(accuracies: dict[str, list[float]]) -> dict[str, Any]:
    """Means with intervals, and of the gain from pretraining, paired by seed. Pure."""
    found: dict[str, Any] = {
        kind: {"accuracies": values, **metrics.interval(values)}
        for kind, values in accuracies.items()
        if values
    }
    if accuracies.get("scratch"):
        pairs = zip(accuracies["pretrained"], accuracies["scratch"], strict=True)
        gains = [with_it - without for with_it, without in pairs]
        found["gain from pretraining"] = {"accuracies": gains, **metrics.interval(gains)}
    return found


def _train_further(
    job: StageJob, recipe: Recipe, kinds: dict[str, list[int]]
) -> dict[str, list[float]]:
    """Test accuracies of further fine-tunings, by kind, in the order of their seeds."""
    wanted = [(kind, seed) for kind, seeds in kinds.items() for seed in seeds]
    name = job.draft.id.replace("/", "-")
    drafts = [Draft(job.storage, f"scratch/{name}-{kind}-{seed}") for kind, seed in wanted]
    trainings = [
        TrainJob(
            functools.partial(classifier, recipe, job.parents, scratch=kind == "scratch"),
            recipe.finetune,
            recipe.seed + seed,
            draft,
        )
        for (kind, seed), draft in zip(wanted, drafts, strict=True)
    ]
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    try:
        limits = recipe.cluster.max_failures_per_hour, recipe.cluster.wait_for_node_minutes
        fit_all(trainings, job.progress, *limits)
        figures = scores(job, recipe.finetune, [draft.place for draft in drafts])
        for (kind, _), draft, own in zip(wanted, drafts, figures, strict=True):
            found[kind].append(own["accuracy"])
            job.storage.delete(draft.work)
    finally:
        for draft in drafts:
            draft.discard()
    return found


def _describe(figures: dict[str, Any]) -> str:
    return (
        f"accuracy {figures['accuracy']:.4f}, macro-F1 {figures['macro_f1']:.4f}, "
        f"calibration error {figures['calibration_error']:.4f} ({figures['documents']:,} documents)"
    )


def _interval(figures: dict[str, Any]) -> str:
    count = len(figures["accuracies"])
    if "half_width_95" not in figures:
        return f"{figures['mean']:.4f}"
    return f"{figures['mean']:.4f} ± {figures['half_width_95']:.4f} (95 %, {count} seeds)"
