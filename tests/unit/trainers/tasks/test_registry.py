"""The section `finetune` is one of several tasks, told by its key `task`."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import ValidationError, create_model

from cluster.recipe.loading import sections_in
from cluster.recipe.section import Section
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.tasks.classify.spec import Classify
from trainers.tasks.registry import TASKS, section_of, union
from trainers.tasks.spec import Metric, TaskSection, gate_refusal


class Rank(TaskSection):
    """A task with a key and a metric of its own."""

    task: Literal["rank"] = "rank"
    margin: float = 1.0
    metrics: ClassVar[Any] = {"perplexity": Metric("min", "perplexity", 1.0, float("inf"))}


def recipe_of(**keys: Any) -> Any:
    section = union([("classify", Classify), ("rank", Rank)])
    return create_model("Recipe", __base__=Section, finetune=(section | None, None))(
        **keys
    ).finetune


def test_the_task_chooses_the_section() -> None:
    assert isinstance(recipe_of(finetune={}), Classify)
    assert recipe_of(finetune={"task": "rank", "margin": 2}).margin == 2
    assert isinstance(recipe_of(finetune=Rank()), Rank)


def test_a_key_of_another_task_is_refused() -> None:
    with pytest.raises(ValidationError, match="margin"):
        recipe_of(finetune={"margin": 2})


def test_a_task_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="rank"):
        recipe_of(finetune={"task": "rnak"})


def test_every_section_of_the_union_is_known_to_the_reference() -> None:
    assert sections_in(union([("classify", Classify), ("rank", Rank)])) == [Classify, Rank]


@pytest.mark.parametrize(
    "keys",
    [
        {"precision": "fp16", "gpus_per_worker": 1},
        {"optimizer": "adafactor", "zero": {"stage": 0}},
        {"deepspeed": {"bf16": {"immediate_grad_update": True}}, "precision": "bf16"},
    ],
)
def test_a_model_is_read_whatever_engine_trained_it(keys: dict[str, Any], tmp_path: Path) -> None:
    made = Classify.model_validate({"max_length": 64, **keys})
    inputs = {"finetune": made.identity()}
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-00", inputs=inputs)
    assert section_of(model).max_length == 64


def test_a_gate_has_the_bounds_of_its_metric() -> None:
    assert gate_refusal(Rank, "perplexity", 40.0) is None
    assert gate_refusal(Rank, "perplexity", 0.5) == ("perplexity is a number from 1, found 0.5")
    assert gate_refusal(Classify, "accuracy", 80.0) == (
        "accuracy is a number from 0 to 1, found 80"
    )
    reason = gate_refusal(Classify, "acuracy", 0.8)
    assert reason is not None
    assert reason.endswith("did you mean 'accuracy'?")


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_reports_has_a_direction(name: str) -> None:
    section = TASKS[name]()
    assert section.task == name
    reported = {section.headline, *section.validation_metrics, *section.test_metrics}
    assert reported <= section.metrics.keys()
