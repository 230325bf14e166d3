"""A model below its gate is not served."""

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
    refuse_worse(gate, TEST, "model/x")


def test_an_error_above_its_gate_is_refused() -> None:
    with pytest.raises(GateRefused, match=r"calibration_error 0\.0500 is above"):
        refuse_worse({"calibration_error": 0.04}, TEST, "model/x")


@pytest.mark.parametrize("gate", [{"accuracy": 0.81}, {"accuracy": 0.5, "macro_f1": 0.9}])
def test_a_model_below_any_gate_is_refused(gate: dict[str, float]) -> None:
    with pytest.raises(GateRefused, match=r"model/x is not promoted: .* is below serve\.gate\."):
        refuse_worse(gate, TEST, "model/x")


@pytest.mark.parametrize("name", ["acuracy", "confusion"])
def test_a_gate_of_no_number_is_refused_with_those_there_are(name: str) -> None:
    says = rf"serve\.gate\.{name}: no such metric; there are accuracy, macro_f1"
    with pytest.raises(UserError, match=says):
        refuse_worse({name: 0.5}, TEST, "model/x")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(str(tmp_path / "mill"))


@pytest.fixture
def parents(storage: Storage) -> dict[str, Artifact]:
    model = published(storage, "model/demo-finetune-0a")
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
    made = promote.promote(parents["finetune"], {"accuracy": 0.7})
    for reference in ("model/demo-finetune-0a", "demo", made.id):
        assert promote.promotion(storage, reference) == made
    assert promote.settings(made) == {}


def test_a_model_that_was_not_evaluated_is_refused(storage: Storage) -> None:
    model = published(storage, "model/demo-finetune-0a")
    with pytest.raises(
        UserError, match="model/demo-finetune-0a was not evaluated; run `raymill eva"
    ):
        promote.promote(model, {})
