import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.errors import RecipeError
from cluster.recipe import loading
from cluster.recipe.loading import load
from tuning.config import Tune
from tuning.space import Range


@pytest.mark.parametrize(
    ("values", "bounds", "probes"),
    [
        ({"choice": ["linear", "cosine"]}, None, ["linear", "cosine"]),
        ({"uniform": [0, 0.5]}, (0.0, 0.5), [0.0, 0.5, 0.185]),
        ({"log_uniform": [1e-5, 1e-3]}, (1e-5, 1e-3), [1e-5, 1e-3, 3.763e-4]),
    ],
)
def test_a_range_is_probed(values: dict[str, Any], bounds: Any, probes: list[Any]) -> None:
    found = Range.model_validate(values)
    assert found.bounds == bounds
    assert found.probes == (probes if bounds is None else pytest.approx(probes))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "give one of choice, uniform, log_uniform"),
        ({"choice": [1], "uniform": [0, 1]}, "give one of choice, uniform, log_uniform"),
        ({"choice": []}, "at least 1 item"),
        ({"uniform": [1, 1]}, "uniform: 1 is not below 1"),
        ({"uniform": [2, 1]}, "uniform: 2 is not below 1"),
        ({"log_uniform": [0, 1]}, "0 is not above zero"),
        ({"log_uniform": [-1, 1]}, "-1 is not above zero"),
        ({"uniform": [0, float("inf")]}, "finite number"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Range.model_validate(values)


@pytest.mark.parametrize("settings", [{"space": {}}, {"trials": 0}, {"mode": "best"}, {"grace": 0}])
def test_a_search_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tune.model_validate({"space": {"finetune.dropout": {"choice": [0.1]}}, **settings})


RECIPE = """\
name: likes
corpora: {sources: {rows: {path: rows.jsonl}}}
finetune: {task: prefer, base: some/model}
"""


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Any]:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)

    def checked(space: Mapping[str, Any], *overrides: str) -> Any:
        document = {"space": {f"finetune.{key}": values for key, values in space.items()}}
        return load(str(path), [*overrides, f"tune={json.dumps({**document, 'trials': 6})}"])

    return checked


METHODS = {"method": {"choice": ["full", "lora"]}}


@pytest.mark.parametrize(
    ("space", "overrides"),
    [
        (METHODS, []),
        ({"precision": {"choice": ["fp32", "bf16"]}}, []),
        ({"method": {"choice": ["full"]}}, ["finetune.method=lora"]),
    ],
)
def test_trials_that_need_another_reference_are_refused(
    checked: Any, space: Any, overrides: list[str]
) -> None:
    """What the base says of the rows is asked before the search, once for all trials."""
    (key,) = space
    with pytest.raises(RecipeError, match=rf"tune\.space\.finetune\.{key}: .* another reference"):
        checked(space, *overrides)


@pytest.mark.parametrize(
    "override",
    ["finetune.reference=scored", "finetune.loss=simpo", "finetune={task: chat, base: b}"],
)
def test_methods_that_share_it_or_have_none_are_compared(checked: Any, override: str) -> None:
    recipe = checked(METHODS, override)
    made = [loading.override(recipe, {"tune": None, **values}) for values in recipe.tune.drawn(1)]
    rates = {one.finetune.method.name: one.finetune.learning_rate for one in made}
    assert rates["lora"] == pytest.approx(10 * rates["full"]), "each has the rate that suits it"


def test_values_that_are_possible_alone_and_not_together_are_refused(checked: Any) -> None:
    space = {"warmup": {"uniform": [0.0, 0.9]}, "decay": {"uniform": [0.01, 0.9]}}
    with pytest.raises(
        RecipeError, match=r"tune\.space: trial \d \(.*\) cannot be: .*over 1 togeth"
    ):
        checked(space, "finetune.schedule=wsd")
    assert checked(space).tune is not None, "of other schedules decay says nothing"


def test_a_trial_of_a_method_that_cannot_be_trained_so_is_refused(checked: Any) -> None:
    space = {"method": {"choice": ["lora", "adalora"]}}
    with pytest.raises(RecipeError, match=r"tune\.space\.finetune\.method: adalora needs zero"):
        checked(space, "finetune.method=lora", "finetune.zero.stage=3")
