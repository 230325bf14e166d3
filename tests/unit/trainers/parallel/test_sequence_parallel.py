"""How ranks divide a sequence, in one process; with several see test_invariance."""

from typing import Any

import pytest
import torch

from cluster.errors import UserError
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.parallel.sequence_parallel import local_tokens, prepare
from trainers.parallel.topology import Topology


def model(tokenizer: Any, **keys: Any) -> Any:
    sizes = {"hidden_size": 32, "layers": 1, "heads": 4, **keys}
    return build(Start(shape=Shape.model_validate(sizes)), "AutoModelForCausalLM", tokenizer)


def test_without_sequence_parallelism_a_rank_has_all_tokens(tokenizer: Any) -> None:
    llama = model(tokenizer, architecture="llama")
    assert prepare(llama, Topology.of(1, 2)) is None
    assert prepare(llama, Topology.of(1, 2, tp_size=2)) is None
    tokens = torch.arange(8).view(1, 8)
    assert local_tokens(llama, tokens) is tokens
    llama.topology = Topology.of(1, 2, sp_size=2)
    assert local_tokens(llama, tokens).tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("keys", "sp_size", "message"),
    [
        ({"architecture": "gpt2"}, 2, "'gpt2' cannot share sequences; those that can: llama"),
        ({"architecture": "llama"}, 3, "3 workers cannot share the 4 heads and 4 key and value"),
        ({"architecture": "qwen3", "heads": 6, "hidden_size": 48, "kv_heads": 3}, 2, "heads and 3"),
    ],
)
def test_a_model_that_cannot_share_is_refused(
    keys: dict[str, Any], sp_size: int, message: str, tokenizer: Any
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(model(tokenizer, **keys), Topology.of(0, sp_size, sp_size))
