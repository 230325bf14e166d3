"""Attention by the bounds of documents, on CPUs, and with a stand-in for the kernel that GPUs alone
have."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import varlen

from trainers.models import packed_attention
from trainers.models.build import Start, build, packed_inputs
from trainers.models.shape import Shape

LENGTH = 48


def kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> Tensor:
    """As torch's own says it is: documents of (tokens, heads, width), one after the other."""
    assert cu_seq_q.dtype == torch.int32
    assert int(cu_seq_q.diff().max()) <= max_q == max_k
    assert query.shape == key.shape == value.shape
    done = []
    for start, end in zip(cu_seq_q[:-1], cu_seq_k[1:], strict=True):
        one = [tensor[start:end].transpose(0, 1) for tensor in (query, key, value)]
        causal = window_size == (-1, 0)
        attended = functional.scaled_dot_product_attention(*one, is_causal=causal, scale=scale)
        done.append(attended.transpose(0, 1))
    return torch.cat(done)


def test_the_stand_in_is_called_as_torchs_own() -> None:
    """Its parameters are those of torch 2.11; later ones have further ones, with defaults."""
    real = inspect.signature(varlen.varlen_attn).parameters
    for name, parameter in inspect.signature(kernel).parameters.items():
        assert real[name].kind == parameter.kind
    needed = {name for name, one in real.items() if one.default is inspect.Parameter.empty}
    assert needed <= inspect.signature(kernel).parameters.keys()
    assert real["window_size"].default == (-1, -1), "all that is before and behind"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "varlen_attn", kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def model_of(tokenizer: Any, architecture: str = "llama", **keys: Any) -> Any:
    torch.manual_seed(17)
    sizes = {"hidden_size": 32, "layers": 2, "heads": 4, "max_positions": LENGTH, **keys}
    shape = Shape.model_validate({"architecture": architecture, **sizes})
    return build(Start(shape=shape), "AutoModelForCausalLM", tokenizer)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("keys", [{}, {"kv_heads": 2}, {"architecture": "qwen3"}])
def test_documents_are_attended_to_as_by_a_mask(
    keys: dict[str, Any], device: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "BLOCK", 16)
    model = model_of(tokenizer, **keys)
    ids = torch.randint(5, 100, (3, LENGTH))
    segments = (torch.rand(3, LENGTH) < 0.1).cumsum(1) + 1
    segments[1, 30:] = 0  # padding
    outcomes = []
    for attends_by_bounds in (False, True):
        if attends_by_bounds:
            packed_attention.prepare(model, torch.device(device), "bf16")
        inputs = packed_inputs(model, ids, segments)
        assert ("attention_mask" in inputs) != attends_by_bounds
        logits = model(**inputs, use_cache=False).logits
        model.zero_grad()
        logits.square().mean().backward()
        gradients = [weight.grad.clone() for weight in model.parameters()]
        outcomes.append([logits.detach(), *gradients])
    for by_mask, by_bounds in zip(*outcomes, strict=True):
        torch.testing.assert_close(by_bounds, by_mask, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("gpu")
def test_padded_batches_are_attended_to_by_their_mask(tokenizer: Any) -> None:
    model = model_of(tokenizer).eval()
    ids = torch.randint(5, 100, (2, LENGTH))
    mask = (torch.arange(LENGTH) < torch.tensor([[20], [LENGTH]])).long()
    batches: list[dict[str, Tensor]] = [
        {"input_ids": ids, "attention_mask": mask},
        {"input_ids": ids},
    ]
    before = [model(**batch).logits for batch in batches]
    packed_attention.prepare(model, torch.device("cuda"), "fp16")
    for batch, expected in zip(batches, before, strict=True):
        found = model(**batch).logits
        torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[0, :20], expected[0, :20], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "device", "precision", "capability"),
    [
        ({}, "cuda", "fp32", (9, 0)),
        ({}, "cuda", "fp16", (7, 5)),  # a T4
        ({"model_type": "gpt2"}, "cuda", "bf16", (9, 0)),
        ({"attention_dropout": 0.1}, "cuda", "bf16", (9, 0)),
        ({"head_dim": 512}, "cuda", "bf16", (9, 0)),
        ({"head_dim": 12}, "cuda", "bf16", (9, 0)),
        ({"layer_types": ["sliding_attention"]}, "cuda", "bf16", (9, 0)),
    ],
)
def test_what_the_kernel_cannot_do_keeps_its_mask(
    changed: dict[str, Any],
    device: str,
    precision: str,
    capability: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    keys = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, **changed}
    config = SimpleNamespace(**keys)
    assert not packed_attention.suits(config, torch.device(device), precision)
    if not changed:
        assert packed_attention.suits(config, torch.device("cpu"), precision)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        assert packed_attention.suits(config, torch.device("cuda"), "bf16")


def test_what_is_compiled_for_cpus_attends_by_masks(tokenizer: Any) -> None:
    model = model_of(tokenizer)
    for is_compiled in (True, False):
        packed_attention.prepare(model, torch.device("cpu"), "bf16", is_compiled)
        assert packed_attention.is_used(model) != is_compiled
