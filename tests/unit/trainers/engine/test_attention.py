"""Attention in blocks is torch's attention, forward and back."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trainers.engine.attention import NAME, attend, prepare
from trainers.models.build import Start, build, packed_inputs
from trainers.models.shape import Shape

LENGTH = 300
"""Two blocks and a part."""


def drawn(heads: int, length: int = LENGTH) -> Tensor:
    return torch.randn(2, heads, length, 16, dtype=torch.float64, requires_grad=True)


def packed(is_causal: bool) -> Tensor:
    segments = (torch.rand(2, LENGTH) < 0.02).cumsum(1)
    same = segments[:, :, None] == segments[:, None, :]
    return (same.tril() if is_causal else same)[:, None]


def gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    toward = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return [result.detach(), *torch.autograd.grad((result * toward).sum(), inputs)]


@pytest.mark.parametrize("key_heads", [1, 4])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "true", "added"])
def test_blocks_compute_what_torch_does(kind: str, is_causal: bool, key_heads: int) -> None:
    torch.manual_seed(17)
    inputs = [drawn(4), drawn(key_heads), drawn(key_heads)]
    mask = None if kind == "none" else packed(is_causal)
    if kind == "added":
        mask = torch.zeros_like(mask, dtype=torch.float64).masked_fill(~mask, -math.inf)  # type: ignore[arg-type,operator]
    module = SimpleNamespace(is_causal=is_causal, training=True)
    blocks, _ = attend(module, *inputs, mask)
    whole = scaled_dot_product_attention(
        *inputs, attn_mask=mask, is_causal=is_causal and mask is None, enable_gqa=True
    )
    result = gradients(blocks, inputs)
    expected = gradients(whole.transpose(1, 2), inputs)
    for one, other in zip(result, expected, strict=True):
        assert float((one - other).abs().max()) < 1e-5  # the softmax is in fp32


def test_queries_of_another_sequence_see_all_its_keys() -> None:
    query, key, value = (one.detach() for one in (drawn(4, 20), drawn(4), drawn(4)))
    module = SimpleNamespace(is_causal=True, training=False)
    result, _ = attend(module, query, key, value, None, scaling=0.5)
    expected = scaled_dot_product_attention(query, key, value, scale=0.5)
    assert float((result - expected.transpose(1, 2)).abs().max()) < 1e-5


@pytest.mark.parametrize("training", [False, True])
def test_dropout_is_for_training_only(training: bool) -> None:
    module = SimpleNamespace(is_causal=False, training=training)
    ones = torch.ones(1, 1, 8, 4)
    result, _ = attend(module, ones, ones, ones, None, dropout=0.5)
    assert bool((result == 1).all()) != training


@pytest.mark.parametrize(
    "architecture", ["bert", "roberta", "electra", "modernbert", "gpt2", "llama", "qwen3"]
)
def test_models_compute_the_same_in_blocks(
    architecture: str, tokenizer: Any, tmp_path: Any
) -> None:
    sizes = {"hidden_size": 32, "layers": 2, "heads": 4, "max_positions": 512}
    start = Start(shape=Shape.model_validate({"architecture": architecture, **sizes}))
    is_causal = architecture in ("gpt2", "llama", "qwen3")
    head = "AutoModelForCausalLM" if is_causal else "AutoModelForMaskedLM"
    torch.manual_seed(17)
    model = build(start, head, tokenizer).eval()
    ids = torch.randint(5, 100, (2, LENGTH))
    inputs = packed_inputs(model, ids, (torch.rand(2, LENGTH) < 0.02).cumsum(1) + 1)
    padded = {"input_ids": ids, "attention_mask": torch.arange(LENGTH).expand(2, -1) < 200}
    before = [model(**batch).logits for batch in (inputs, padded)]
    prepare(model, "cpu")
    assert model.config._attn_implementation == NAME
    for batch, expected in zip((inputs, padded), before, strict=True):
        logits = model(**batch).logits
        assert float((logits - expected).detach()[:, :200].abs().max()) < 1e-4
    model.config.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_fp32_without_dropout_is_torchs_own() -> None:
    query, key, value = (one.detach().float() for one in (drawn(4), drawn(4), drawn(4)))
    module = SimpleNamespace(is_causal=False, training=True, num_key_value_groups=1)
    result, _ = attend(module, query, key, value, None)
    expected = scaled_dot_product_attention(query, key, value)
    assert torch.equal(result, expected.transpose(1, 2))


def test_gpus_keep_their_attention(tokenizer: Any) -> None:
    start = Start(shape=Shape(hidden_size=16, layers=1, heads=2))
    model = build(start, "AutoModelForMaskedLM", tokenizer)
    prepare(model, "cuda")
    assert model.config._attn_implementation == "sdpa"
    prepare(model, "cpu")
    assert model.config._attn_implementation == NAME
