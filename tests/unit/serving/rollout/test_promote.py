"""A model below its gate is not served."""

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import GateRefused, UserError
from cluster.recipe.loading import load
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact, drafting
from cluster.store.storage import Storage
from serving.rollout import promote
from serving.rollout.promote import refuse_worse
from tests.fakes import Notes, published
from trainers.tasks.classify.spec import Classify

CLASSIFIER = {"finetune": {"task": "classify"}}
TEST = {
    "accuracy": 0.8,
    "macro_f1": 0.75,
    "calibration_error": 0.05,
    "confusion": [[1]],
    "documents": 10,
}


@pytest.mark.parametrize(
    "gate",
    [
        {},
        {"accuracy": 0.8},
        {"accuracy": 0.1, "macro_f1": 0.75},
        {"calibration_error": 0.05},
    ],
)
def test_a_model_at_its_gate_passes(gate: dict[str, float]) -> None:
    refuse_worse(gate, TEST, Classify, "model/x")


def test_an_error_above_its_gate_is_refused() -> None:
    with pytest.raises(GateRefused, match=r"calibration_error 0\.0500 is above"):
        refuse_worse({"calibration_error": 0.04}, TEST, Classify, "model/x")


@pytest.mark.parametrize("gate", [{"accuracy": 0.81}, {"accuracy": 0.5, "macro_f1": 0.9}])
def test_a_model_below_any_gate_is_refused(gate: dict[str, float]) -> None:
    with pytest.raises(GateRefused, match=r"model/x is not promoted: .* is below serve\.gate\."):
        refuse_worse(gate, TEST, Classify, "model/x")


def test_what_is_not_a_number_passes_no_gate() -> None:
    for name in ("accuracy", "calibration_error"):
        with pytest.raises(GateRefused, match=f"{name} nan"):
            refuse_worse({name: 0.5}, {name: math.nan}, Classify, "model/x")


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        (
            {"acuracy": 0.5},
            r"serve\.gate\.acuracy: no such metric, there are accuracy, macro_f1, .*; did you mean "
            "'accuracy'",
        ),
        ({"confusion": 0.5}, r"serve\.gate\.confusion: no such metric, there are accuracy"),
        ({"accuracy": 80}, r"serve\.gate\.accuracy: accuracy is a number from 0 to 1, found 80"),
        ({"loss": -1}, r"serve\.gate\.loss: loss is a number from 0, found -1"),
        (
            {"micro_f1": 0.5},
            r"serve\.gate\.micro_f1: the evaluation of model/x does not report it; it reports "
            "accuracy, macro_f1, calibration_error",
        ),
    ],
)
def test_a_gate_that_cannot_be_held_is_refused_with_its_bounds(
    gate: dict[str, float], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        refuse_worse(gate, TEST, Classify, "model/x")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(str(tmp_path / "mill"))


@pytest.fixture
def parents(storage: Storage) -> dict[str, Artifact]:
    model = published(storage, "model/demo-finetune-0a", inputs=CLASSIFIER)
    evaluation = published(
        storage,
        "evaluation/demo-evaluate-0b",
        parents={"finetune": model.id},
        metrics={"test": TEST},
    )
    return {"finetune": model, "evaluate": evaluation}


def run(storage: Storage, parents: dict[str, Artifact], gate: str, recipe: Path) -> dict[str, Any]:
    recipe.write_text(
        "name: demo\ncorpora: {sources: {x: {path: x, label: y}}}\n"
        f"finetune: {{base: b}}\nserve: {{gate: {gate}, port: 9001}}\n"
    )
    with drafting(storage, "promotion/demo-promote-0c") as draft:
        found = promote.run(StageJob(load(recipe), parents, draft, storage, Notes(), {}))
        draft.publish(recipe="demo", stage="promote", parents={}, inputs={}, metrics=found)
        return found


def test_the_stage_promotes_what_passes(
    storage: Storage, parents: dict[str, Artifact], tmp_path: Path
) -> None:
    found = run(storage, parents, "{accuracy: 0.7}", tmp_path / "recipe.yaml")
    assert found == {"model": "model/demo-finetune-0a", "gate": {"accuracy": 0.7}, "accuracy": 0.8}
    made = promote.promotion(storage, "demo")
    assert promote.settings(made)["port"] == 9001, "the recipe's port, for `raymill serve demo`"


def test_the_stage_refuses_what_does_not(
    storage: Storage, parents: dict[str, Artifact], tmp_path: Path
) -> None:
    with pytest.raises(GateRefused):
        run(storage, parents, "{accuracy: 0.9}", tmp_path / "recipe.yaml")


def test_a_model_is_promoted_by_hand_once(storage: Storage, parents: dict[str, Artifact]) -> None:
    model = parents["finetune"]
    made = promote.promote(model, {"accuracy": 0.7})
    assert made.manifest.parents == {name: parent.id for name, parent in parents.items()}
    assert made.manifest.metrics["model"] == model.id
    assert promote.promote(model, {"accuracy": 0.7}) == made
    assert promote.promote(model, {"accuracy": 0.75}) != made
    with pytest.raises(GateRefused):
        promote.promote(model, {"accuracy": 0.9})


def test_a_promotion_is_found_by_its_model(storage: Storage, parents: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="model/demo-finetune-0a was not promoted; run `raymill"):
        promote.promotion(storage, "model/demo-finetune-0a")
    with pytest.raises(UserError, match="demo: none of its models was promoted; run `raymill pro"):
        promote.promotion(storage, "demo")
    made = promote.promote(parents["finetune"], {"accuracy": 0.7})
    for reference in ("model/demo-finetune-0a", "demo", made.id):
        assert promote.promotion(storage, reference) == made
    assert promote.settings(made) == {}


def test_a_model_that_was_not_evaluated_is_refused(storage: Storage) -> None:
    inputs = {"finetune": {"task": "classify"}}
    model = published(storage, "model/demo-finetune-0a", {"weights": "1"}, inputs=inputs)
    with pytest.raises(
        UserError, match="was not evaluated, and promote computes nothing; run `ray"
    ):
        promote.promote(model, {})
    (model.path / "weights").unlink()
    with pytest.raises(UserError, match="is damaged: weights is not there"):
        promote.promote(model, {})
