"""How layers are cut, in one process; with several see test_invariance and test_resharding."""

from typing import Any

import pytest
import torch

from cluster.errors import UserError
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.parallel import tensor_parallel
from trainers.tasks.task import Objective


def objective(tokenizer: Any, **keys: Any) -> Objective:
    sizes = {"hidden_size": 32, "layers": 1, "heads": 4, **keys}
    model = build(Start(shape=Shape.model_validate(sizes)), "AutoModelForCausalLM", tokenizer)
    return Objective(model, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "tp_size", "message"),
    [
        ({"architecture": "gpt2"}, 2, "'gpt2' cannot be cut; those that can: llama"),
        ({"architecture": "llama"}, 3, "3 workers cannot share the 4 attention heads"),
        ({"architecture": "qwen3", "kv_heads": 1}, 2, "the 1 key and value heads"),
        (
            {"architecture": "llama", "intermediate_size": 63},
            2,
            "the 63 intermediate features of the model evenly",
        ),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(
    keys: dict[str, Any], tp_size: int, message: str, tokenizer: Any
) -> None:
    with pytest.raises(UserError, match=message):
        tensor_parallel.prepare(objective(tokenizer, **keys), tp_size)


def test_a_parameter_that_was_not_cut_is_whole() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    assert tensor_parallel.slice_of(weight) is None
    assert tensor_parallel.gather(weight, weight) is weight
