from typing import Any

import pytest
from pydantic import ValidationError

from tuning.config import Range, Tune


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
