"""What shares a sequence among workers, without workers; with them see test_invariance."""

from typing import Any

import pytest
import torch

from cluster.errors import UserError
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.parallel.sequence_parallel import own, shared
from trainers.parallel.topology import Place


def model(tokenizer: Any, **keys: Any) -> Any:
    sizes = {"hidden_size": 32, "layers": 1, "heads": 4, **keys}
    return build(Start(shape=Shape.model_validate(sizes)), "causal_lm", tokenizer)


def test_a_model_that_shares_nothing_has_all_tokens(tokenizer: Any) -> None:
    llama = model(tokenizer, architecture="llama")
    assert shared(llama, Place.of(1, 2, 1)) is None
    assert shared(llama, Place.of(1, 2, 2, "weights")) is None
    tokens = torch.arange(8).view(1, 8)
    assert own(llama, tokens) is tokens
    llama.place = Place.of(1, 2, 2)
    assert own(llama, tokens).tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("keys", "parts", "says"),
    [
        ({"architecture": "gpt2"}, 2, "'gpt2' cannot share sequences; those that can: llama"),
        ({"architecture": "llama"}, 3, "3 workers cannot share the 4 heads and 4 key and value"),
        ({"architecture": "qwen3", "heads": 6, "hidden_size": 48, "kv_heads": 3}, 2, "heads and 3"),
    ],
)
def test_a_model_that_cannot_share_is_refused(
    keys: dict[str, Any], parts: int, says: str, tokenizer: Any
) -> None:
    with pytest.raises(UserError, match=says):
        shared(model(tokenizer, **keys), Place.of(0, parts, parts))
