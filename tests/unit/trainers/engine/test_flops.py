"""FLOPs of a token, against the formula by hand and against torch's own count."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainers.engine import flops
from trainers.engine.training_config import Training
from trainers.models.build import Start, build
from trainers.models.shape import Shape

HEADS = {"llama": "causal_lm", "bert": "masked_lm", "t5": "span_corruption"}


def model_of(architecture: str, tokenizer: Any, **shape: Any) -> Any:
    sizes = {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128, **shape}
    start = Start(shape=Shape(architecture=architecture, **sizes))  # type: ignore[arg-type]
    return build(start, HEADS[architecture], tokenizer)


def test_the_formula_by_hand(tokenizer: Any) -> None:
    """A Llama of two layers: four square matrices of attention, three of the feed-forward layer,
    two norms each; a last norm; the output layer, which is the embedding table."""
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    parameters = 2 * layer + 64 + 64 * len(tokenizer)
    cost = flops.cost(model_of("llama", tokenizer))
    assert cost == flops.Cost(parameters, widths=2 * 64)
    assert cost.of_token(32) == 6 * parameters + 12 * 2 * 64 * 32


def test_a_table_that_is_only_looked_up_multiplies_nothing(tokenizer: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    masked = model_of("bert", tokenizer)
    classifier = AutoModelForSequenceClassification.from_config(masked.config)
    embeddings = classifier.bert.embeddings
    looked_up = sum(
        table.weight.numel()
        for table in (
            embeddings.word_embeddings,
            embeddings.position_embeddings,
            embeddings.token_type_embeddings,
        )
    )
    everything = sum(parameter.numel() for parameter in classifier.parameters())
    assert flops.cost(classifier).parameters == everything - looked_up
    assert flops.cost(masked).parameters > flops.cost(classifier).parameters


def test_both_stacks_of_t5_count(tokenizer: Any) -> None:
    assert flops.cost(model_of("t5", tokenizer)).widths == 4 * 64


def test_it_is_what_torch_counts(tokenizer: Any) -> None:
    model = model_of("llama", tokenizer, hidden_size=128, intermediate_size=512)
    model.set_attn_implementation("eager")  # the counter sees no fused attention on a CPU
    rows, length = 2, 32
    ids = torch.randint(0, len(tokenizer), (rows, length))
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids, use_cache=False).loss.backward()
    counted = counter.get_total_flops() / (rows * length)
    assert flops.cost(model).of_token(length) == pytest.approx(counted, rel=0.02)


def test_a_given_peak_is_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops.dist, "get_world_size", lambda: 3)
    assert flops.peak(Training(peak_tflops=2.0), torch.device("cpu")) == 6e12


def test_a_peak_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "MEASURED_S", 0.0)
    monkeypatch.setattr(flops.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    flops.measured_peak.cache_clear()
    found = flops.peak(Training(precision="fp32"), torch.device("cpu"))
    assert 1e8 < found < 1e15
    assert flops.peak(Training(precision="fp32"), torch.device("cpu")) == found
