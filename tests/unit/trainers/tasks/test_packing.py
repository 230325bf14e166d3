"""Rows that are packed take less padding, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.models import chunked_loss
from trainers.models.lean_imports import transformers
from trainers.tasks import packing
from trainers.tasks.causal_loss import causal_loss
from trainers.tasks.task import IGNORED

ARCHITECTURES = ("llama", "gpt2")
PAD, TOKENS = 0, 40


def rows(count: int = 9) -> list[dict[str, Any]]:
    """Prompts, which are not learned, with answers, which are."""
    drawn = np.random.default_rng(5)
    made = []
    for length in drawn.integers(4, 30, count):
        learned = np.arange(length) >= length // 3
        made.append({"input_ids": drawn.integers(3, TOKENS, length), "learned": learned})
    return made


def model(architecture: str) -> Any:
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(
        architecture,
        vocab_size=TOKENS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    chunked_loss.prepare(made)
    return made


def batch(some: list[dict[str, Any]], is_packed: bool) -> dict[str, Tensor]:
    lengths = [len(row["input_ids"]) for row in some]
    place = packing.packed if is_packed else packing.one_by_one
    made = packing.collated(some, place(lengths), PAD)
    return made if is_packed else packing.padded(made)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_every_row_is_packed_once_with_little_padding(lengths: list[int]) -> None:
    sequences = packing.packed(lengths)
    assert sorted(place for places in sequences for place in places) == [*range(len(lengths))]
    width = max(sum(lengths[place] for place in places) for places in sequences)
    assert 1 - sum(lengths) / (width * len(sequences)) < packing.MOST_PADDING


def test_sequences_are_as_short_as_padding_allows() -> None:
    assert packing.packed([8, 8, 8, 8]) == [[0], [1], [2], [3]]
    assert packing.packed([9, 5, 4]) == [[0], [1, 2]]
    assert packing.packed([10, 3]) == [[0, 1]]


def test_a_label_is_the_next_token_of_its_row_where_that_is_learned() -> None:
    some = [
        {"input_ids": [5, 6, 7, 8], "learned": [False, False, True, True]},
        {"input_ids": [9, 10], "learned": [True, True]},
    ]
    made = packing.collated(some, [[0, 1]], PAD)
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert made["segments"].tolist() == [[1, 1, 1, 1, 2, 2]]
    assert made["labels"].tolist() == [[IGNORED, 7, 8, IGNORED, 10, IGNORED]]
    made = packing.collated(some, [[0], [1]], PAD)
    assert made["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, PAD, PAD]]
    assert made["segments"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert made["labels"].tolist() == [[IGNORED, 7, 8, IGNORED], [10, *[IGNORED] * 3]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_rows_one_by_one(architecture: str) -> None:
    learner, some = model(architecture), rows()
    found = []
    for is_packed in (True, False):
        made = batch(some, is_packed)
        inputs = packing.model_inputs(learner, made)
        loss, _ = causal_loss(learner, inputs, made["labels"], counted=False)
        found.append((loss, torch.autograd.grad(loss, [*learner.parameters()])))
    (loss, gradients), (expected, others) = found
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0.0)
    largest = max(float(one.abs().max()) for one in others)
    for one, other in zip(gradients, others, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * largest


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_row_does_not_see_its_neighbours(architecture: str) -> None:
    learner, some = model(architecture), rows(3)
    sequences = [[0, 1, 2]]
    made = packing.collated(some, sequences, PAD)
    before = learner(**packing.model_inputs(learner, made)).logits
    some[1] = {**some[1], "input_ids": (some[1]["input_ids"] + 1) % TOKENS}
    changed = packing.collated(some, sequences, PAD)
    after = learner(**packing.model_inputs(learner, changed)).logits
    is_changed = made["segments"] == 2
    assert not torch.equal(before[is_changed], after[is_changed])
    assert torch.equal(before[~is_changed], after[~is_changed])


@torch.no_grad()
def test_types_that_cannot_keep_rows_apart_see_no_padding() -> None:
    """Of each row alone the logits are the same."""
    learner, some = model("opt"), rows(4)
    made = batch(some, is_packed=False)
    logits = learner(**packing.model_inputs(learner, made)).logits
    for number, row in enumerate(some):
        ids = torch.from_numpy(row["input_ids"])[None]
        torch.testing.assert_close(
            logits[number, : ids.shape[1]], learner(input_ids=ids).logits[0], rtol=1e-4, atol=1e-5
        )
