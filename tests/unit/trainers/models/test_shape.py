"""Sizes of a model from scratch."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainers.models.shape import Shape


@pytest.mark.parametrize(
    ("written", "meant"),
    [("120M", 120_000_000), ("1.5B", 1_500_000_000), ("64K", 64_000), ("5000", 5000), (9, 9)],
)
def test_a_number_of_parameters_as_text(written: Any, meant: int) -> None:
    assert Shape.model_validate({"parameters": written}).parameters == meant


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"parameters": "many"}, "valid integer"),
        ({"parameters": "0M"}, "greater than or equal to 1"),
        ({"parameters": "5M", "layers": 2}, "follows from `parameters`"),
        ({"kv_heads": 2}, "bert has none; those that do: llama, qwen3"),
        ({"architecture": "llama", "heads": 4, "kv_heads": 3}, "3 does not divide heads 4"),
    ],
)
def test_sizes_that_do_not_go_together(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Shape.model_validate(keys)
