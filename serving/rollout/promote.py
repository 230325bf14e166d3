"""The stage `promote`: a model that passes its gate may be served. Promotions are artifacts, so
what was served when, and what it came from, can always be told."""

import json
from collections.abc import Mapping
from typing import Any

from cluster.errors import GateRefused, UserError
from cluster.runs.pipeline import StageJob
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.lookup import lookup
from cluster.store.storage import Storage
from trainers.models.published import evaluations_on_test, refuse_damaged
from trainers.tasks.registry import task_of
from trainers.tasks.spec import TaskSection, gate_refusal

SETTINGS = "serve.json"
"""In the promotion: how the recipe serves it."""


def run(job: StageJob) -> dict[str, Any]:
    evaluation, model = job.parents["evaluate"], job.parents["finetune"]
    metrics = passed(job.recipe.serve.gate, evaluation, model)
    with job.draft.folder() as folder:
        settings = job.recipe.serve.model_dump(mode="json")
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1), "utf-8")
    figures = [
        f"{name} {metrics[name]:.4f}, gate {limit:g}" for name, limit in metrics["gate"].items()
    ]
    job.progress.line(f"{model.id} ({', '.join(figures) or 'no gate'})")
    return metrics


def settings(promoted: Artifact) -> dict[str, Any]:
    """The recipe's `serve` section of a promotion; nothing if it was promoted by hand."""
    if SETTINGS not in promoted.manifest.files:
        return {}
    return json.loads((promoted.path / SETTINGS).read_text("utf-8"))


def promoted_model(promoted: Artifact) -> Artifact:
    model = artifacts.find(promoted.storage, promoted.manifest.parents["finetune"])
    assert model is not None, "a promotion outlived its model"
    return model


def passed(gate: Mapping[str, float], evaluation: Artifact, model: Artifact) -> dict[str, Any]:
    """What passed: the model, the gate and the figures it held. Raises what `refuse_worse` does."""
    test = evaluation.manifest.metrics["test"]
    refuse_worse(gate, test, task_of(model), model.id)
    return {"model": model.id, "gate": dict(gate), **{name: test[name] for name in gate}}


def refuse_worse(
    gate: Mapping[str, float], test: Mapping[str, Any], task: type[TaskSection], model: str
) -> None:
    """Raises GateRefused if a metric is worse than the gate, UserError where a gate is none for the
    task, or the evaluation lacks its metric. Pure."""
    for name, limit in gate.items():
        reason = gate_refusal(task, name, limit)
        if reason is None and name not in test:
            reported = ", ".join(known for known in task.metrics if known in test)
            reason = f"the evaluation of {model} does not report it; it reports {reported}"
        if reason is not None:
            raise UserError(f"serve.gate.{name}: {reason}")
        metric, value = task.metrics[name], test[name]
        if metric.is_worse(value, limit):
            worse = "above" if metric.mode == "min" else "below"
            raise GateRefused(
                f"{model} is not promoted: {name} {value:.4f} is {worse} "
                f"serve.gate.{name} = {limit:g}"
            )


def promote(model: Artifact, gate: Mapping[str, float]) -> Artifact:
    """Promote a model by hand, by the test figures of its evaluation: one on a file of the user's
    is of the stage `data`, and counts for nothing here. Raises UserError where it has none, and
    what `refuse_worse` does."""
    storage = model.storage
    task_of(model)  # refuses what is no model of a task
    refuse_damaged(model, model.id)
    evaluations = evaluations_on_test(storage, model.id)
    if not evaluations:
        raise UserError(
            f"{model.id} was not evaluated, and promote computes nothing; run `raymill evaluate "
            f"{model.id}` first"
        )
    metrics = passed(gate, evaluations[-1], model)
    parents = {"finetune": model.id, "evaluate": evaluations[-1].id}
    inputs = {"serve.gate": dict(gate)}
    version = artifacts.fingerprint("promotion", inputs, parents)
    name = model.manifest.recipe
    promotion_id = f"promotion/{name}-promote-{version}"
    known = artifacts.find(storage, promotion_id)
    if known is not None:
        return known
    with artifacts.drafting(storage, promotion_id) as draft:
        return draft.publish(
            recipe=name, stage="promote", parents=parents, inputs=inputs, metrics=metrics
        )


def promotion(storage: Storage, reference: str) -> Artifact:
    """The promotion that a user means: by its id, by recipe, or the newest of a model.

    Raises UserError where there is none.
    """
    if not reference.startswith("model/"):
        models = [
            model
            for model in artifacts.listed(storage, "model")
            if model.manifest.recipe == reference
        ]
        promoted = [one.manifest.recipe for one in artifacts.listed(storage, "promotion")]
        if models and reference not in promoted:
            raise UserError(
                f"{reference}: none of its models was promoted; run `raymill promote {reference}` "
                "first"
            )
        return lookup(storage, "promotion", reference)
    model = lookup(storage, "model", reference)
    promotions = [
        promotion
        for promotion in artifacts.listed(storage, "promotion")
        if promotion.manifest.parents["finetune"] == model.id
    ]
    if not promotions:
        raise UserError(f"{model.id} was not promoted; run `raymill promote {model.id}` first")
    return promotions[-1]
