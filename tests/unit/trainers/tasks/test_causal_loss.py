"""Every causal model has the loss of its own logits, whether it is computed in chunks or not."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.methods.adapt import adapt
from trainers.methods.config import Adapting, Lora, Prompt
from trainers.models import chunked_loss
from trainers.models.chunked_loss import MODEL_TYPES, loss_head, prepare
from trainers.models.lean_imports import transformers
from trainers.tasks import causal_loss as tasks_loss
from trainers.tasks.causal_loss import causal_loss
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.task import IGNORED

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NAMES = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_neo": {"attention_types": [[["global"], 2]], "num_layers": 2, "num_heads": 2},
}
"""What a type calls otherwise."""
FURTHER = {
    "gemma2": {"final_logit_softcapping": 5.0},
    "granite": {"logits_scaling": 4.0},
    "cohere": {},
}
"""Types whose logits are more than their output layer's."""


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", 1)
    monkeypatch.setitem(chunked_loss.CHUNK_TOKENS, "cpu", 5)


def model(kind: str, **keys: Any) -> Any:
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **NAMES.get(kind, {}), **keys})
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    prepare(made)
    return made


def batch() -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(2)
    ids, labels = torch.randint(3, 60, (2, 3, 12), generator=draw)
    labels[0, :7] = IGNORED
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels


def assert_plain(learner: Any) -> None:
    """Loss and gradients are those of the logits."""
    inputs, labels = batch()
    loss, counts = causal_loss(learner, inputs, labels, counted=True)
    logits = learner(**inputs, use_cache=False).logits
    expected, others = cross_entropy(logits, labels, counted=True)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert int(counts["correct"]) == int(others["correct"])
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    for one, other in zip(
        found, torch.autograd.grad(expected, weights, allow_unused=True), strict=True
    ):
        if one is None or other is None:
            assert one is other
        else:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_in_chunks(kind: str, is_tied: bool) -> None:
    learner = model(kind, tie_word_embeddings=is_tied)
    assert loss_head(learner) is not None
    assert_plain(learner)


@pytest.mark.parametrize("kind", FURTHER)
def test_of_logits_that_are_scaled_or_capped(kind: str) -> None:
    learner = model(kind, **FURTHER[kind])
    assert loss_head(learner) is None
    assert_plain(learner)


def test_fp16_is_learned_from_whole_logits() -> None:
    assert loss_head(model("llama").half()) is None
    with torch.autocast("cpu", torch.float16):
        assert loss_head(model("llama")) is None


@pytest.mark.parametrize("adapter", [Lora(name="lora", dropout=0), Prompt(name="prompt")])
def test_with_adapters_in_layers_and_before_them(adapter: Adapting) -> None:
    learner = model("llama")
    adapt(learner, adapter)
    assert_plain(learner)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("whole", [0, 1 << 25], ids=["chunks", "few"])
def test_compiled(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_loss, "WHOLE_LOGITS", whole)
    torch._dynamo.reset()
    learner = model("llama").train()
    inputs, labels = batch()
    compiled = torch.compile(causal_loss, dynamic=True)
    loss, _ = compiled(learner, inputs, labels, False)
    expected, _ = causal_loss(learner, inputs, labels, False)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    weights = [*learner.parameters()]
    for one, other in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
