"""The parameter groups of adapters (huggingface/peft#3503: an empty group, and a head in the group
of another learning rate)."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from trainers.engine.optimizers import parameter_groups
from trainers.methods.adapt import adapt
from trainers.tasks.classify.spec import Classify

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}


def grouped(method: Any) -> list[tuple[float, float, set[str]]]:
    """The rate factor, the decay and the names of each group."""
    settings = Classify.model_validate({"method": method, "weight_decay": 0.1})
    model = BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=32))
    assert settings.adapter is not None
    adapt(model, settings.adapter)
    names = {weight: name for name, weight in model.named_parameters()}
    groups = parameter_groups(nn.ModuleDict({"model": model}), settings)
    assert all(group["params"] for group in groups)
    assert sum(len(group["params"]) for group in groups) == sum(
        weight.requires_grad for weight in model.parameters()
    )
    return [
        (group["rate_factor"], group["weight_decay"], {names[one] for one in group["params"]})
        for group in groups
    ]


def test_lora_plus_has_two_learning_rates_and_the_head_goes_by_the_first() -> None:
    first, vectors, second = grouped({"name": "lora", "lora_plus": 16})
    assert (first[0], vectors[0], second[0]) == (1.0, 1.0, 16.0)
    assert all(".lora_B." in name for name in second[2])
    assert sum(".lora_A." in name for name in first[2]) == len(second[2])
    head = {f"classifier.modules_to_save.default.{name}" for name in ("weight", "bias")}
    assert head <= first[2] | vectors[2]


def test_lora_has_one_learning_rate() -> None:
    assert [factor for factor, _, _ in grouped("lora")] == [1.0, 1.0]


@pytest.mark.parametrize(("method", "factor"), [("ia3", ".ia3_l."), ("adalora", ".lora_E.")])
def test_factors_do_not_decay_though_they_are_matrices(method: str, factor: str) -> None:
    decay = {name: decay for _, decay, names in grouped(method) for name in names}
    found = {name: value for name, value in decay.items() if factor in name}
    assert found
    assert {*found.values()} == {0.0}


def test_what_is_frozen_is_in_no_group() -> None:
    names = set().union(*(names for _, _, names in grouped("lora")))
    assert not any("base_layer" in name or "original_module" in name for name in names)


def test_a_whole_model_has_its_groups_as_before() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    matrices, vectors = parameter_groups(model, Classify(weight_decay=0.1))
    assert [tuple(one.shape) for one in matrices["params"]] == [(2, 3)]
    assert torch.equal(vectors["params"][0], model[0].bias)
