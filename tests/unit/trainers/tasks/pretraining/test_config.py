"""Keys of `pretrain` that do not go together are refused, with the remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainers.tasks.pretraining.config import Pretrain


def refusal(**keys: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Pretrain.model_validate({"model": {}, **keys})
    return str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("objective", "architecture"),
    [
        ("masked_lm", "llama"),
        ("causal_lm", "bert"),
        ("replaced_tokens", "bert"),
        ("replaced_tokens", "llama"),
        ("span_corruption", "llama"),
        ("masked_lm", "t5"),
    ],
)
def test_an_objective_needs_an_architecture_that_suits_it(
    objective: str, architecture: str
) -> None:
    said = refusal(objective=objective, model={"architecture": architecture})
    assert f"{objective} needs an architecture of " in said
    assert f"found '{architecture}'" in said


def test_a_model_comes_from_one_place() -> None:
    for keys in ({"model": {}}, {"like": "a/b"}, {"base": "a/b"}):
        Pretrain.model_validate(keys)
    said = "give `model` or `like` (from scratch) or `base` (continue), one of them"
    assert said in refusal(like="a/b")
    assert said in refusal(model=None)


def test_only_what_masks_masks_whole_words() -> None:
    for objective, architecture in (("masked_lm", "bert"), ("replaced_tokens", "electra")):
        Pretrain.model_validate(
            {
                "objective": objective,
                "model": {"architecture": architecture},
                "whole_words": True,
            }
        )
    said = refusal(objective="causal_lm", model={"architecture": "llama"}, whole_words=True)
    assert "causal_lm masks no words; leave it out" in said


def test_workers_that_share_sequences_fit_each_other() -> None:
    llama = {"objective": "causal_lm", "model": {"architecture": "llama"}}
    shared = {**llama, "workers": 4, "sequence_parallel": 2, "batch_size": 2}
    assert Pretrain.model_validate(shared).least_dp_size == 2
    assert "1 is less than workers = 4" in refusal(**{**shared, "batch_size": 1})
    assert "2 does not divide workers, found 3" in refusal(**{**shared, "workers": 3})
    elastic = {"min": 2, "max": 4}
    assert "found min and max" in refusal(**{**shared, "workers": elastic})
    assert "needs objective: causal_lm" in refusal(workers=2, sequence_parallel=2)
    gpt2 = {"architecture": "gpt2"}
    assert "needs llama or qwen3, found 'gpt2'" in refusal(**{**shared, "model": gpt2})
    assert "cannot be with sequence_parallel" in refusal(**shared, compile=True)
    unlike = {"zero_optimization": {"reduce_scatter": False}}
    assert "must be true with sequence_parallel" in refusal(**shared, deepspeed=unlike)


def test_workers_that_share_layers_fit_each_other() -> None:
    llama = {"objective": "causal_lm", "model": {"architecture": "llama"}}
    shared = {**llama, "workers": 4, "tensor_parallel": 2, "batch_size": 2}
    settings = Pretrain.model_validate(shared)
    assert (settings.least_dp_size, settings.tp_size) == (2, 2)
    assert "2 does not divide workers, found 3" in refusal(**{**shared, "workers": 3})
    assert "cannot be with sequence_parallel yet" in refusal(**shared, sequence_parallel=2)
    assert "cannot be with tensor_parallel" in refusal(**shared, compile=True)
    assert "needs zero.stage 1, 2 or 3" in refusal(**shared, zero={"stage": 0})


def test_every_worker_of_the_most_needs_a_sequence() -> None:
    assert "is less than workers = 4" in refusal(batch_size=3, workers={"max": 4})
