"""The stage `promote`: a model that passes its gate may be served. Promotions are artifacts, so
what was served when, and what it came from, can always be told."""

import json
from collections.abc import Mapping
from typing import Any

from cluster import artifacts
from cluster.artifacts import Artifact
from cluster.errors import GateRefused, UserError
from cluster.pipeline import StageJob
from cluster.storage import Storage


def run(job: StageJob) -> dict[str, Any]:
    gate = job.recipe.serve.gate
    test = job.parents["evaluate"].manifest.metrics["test"]
    model = job.parents["finetune"]
    refuse_below(gate, test, model.id)
    with job.draft.folder() as folder:
        text = json.dumps({"model": model.id, "gate": gate, "test": test}, indent=1)
        (folder / "promotion.json").write_text(text, encoding="utf-8")
    passed = ", ".join(f"{name} {test[name]:.4f} >= {least:g}" for name, least in gate.items())
    job.progress.line(f"{model.id} ({passed or 'no gate'})")
    return {"model": model.id, "gate": gate, **{name: test[name] for name in gate}}


def refuse_below(gate: Mapping[str, float], test: Mapping[str, Any], model: str) -> None:
    """Raises GateRefused if a metric is below the gate, UserError if there is no such metric.
    Pure."""
    for name, least in gate.items():
        value = test.get(name)
        if not isinstance(value, int | float):
            numbers = [key for key, found in test.items() if isinstance(found, int | float)]
            raise UserError(f"serve.gate.{name}: no such metric; there are {', '.join(numbers)}")
        if not value >= least:  # not a number is not good enough either
            raise GateRefused(
                f"{model} is not promoted: {name} {value:.4f} is below "
                f"serve.gate.{name} = {least:g}"
            )


def promote(storage: Storage, reference: str, gate: Mapping[str, float]) -> Artifact:
    """Promote a model by hand, by the test figures of its evaluation."""
    model = artifacts.lookup(storage, "model", reference, stage="finetune")
    evaluations = [
        evaluation
        for evaluation in artifacts.listed(storage, "evaluation")
        if evaluation.manifest.parents.get("finetune") == model.id
    ]
    if not evaluations:
        raise UserError(f"{model.id} was not evaluated; run `raymill evaluate` on its recipe first")
    test = evaluations[-1].manifest.metrics["test"]
    refuse_below(gate, test, model.id)
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
            recipe=name,
            stage="promote",
            parents=parents,
            inputs=inputs,
            metrics={"model": model.id, "gate": dict(gate), **{key: test[key] for key in gate}},
        )
