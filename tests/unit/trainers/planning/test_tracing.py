"""Fake tensors live and die as real ones do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.recipe.loading import load
from trainers.models import chunked_loss, packed_attention
from trainers.models.build import parts, recompute_activations
from trainers.planning import synthetic_corpus, tracing
from trainers.planning.tracing import Trace, aligned, trace
from trainers.pretrain import task
from trainers.tasks.task import Objective, Task

LENGTH, PIECES = 48, 300
OBJECTIVES = [
    ("causal_lm", "llama"),
    ("causal_lm", "gpt2"),
    ("masked_lm", "bert"),
    ("masked_lm", "modernbert"),
    ("replaced_tokens", "electra"),
    ("span_corruption", "t5"),
]


@pytest.fixture(params=OBJECTIVES, ids=lambda pair: pair[1])
def learned(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    return made(*request.param, tmp_path)


def made(objective: str, architecture: str, folder: Path) -> Task:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"""
name: traced
corpora:
  sources: {{none: {{path: none.txt}}}}
  sequence_length: {LENGTH}
pretrain:
  objective: {objective}
  model: {{architecture: {architecture}, hidden_size: 32, layers: 2, heads: 2}}
"""
    )
    corpus = synthetic_corpus.corpus(folder, PIECES, LENGTH, rows=8)
    return task(load(recipe), {"shard": corpus})


def batch(learned: Any, size: int) -> Any:
    return learned.collate(learned.rows("train").take(np.arange(size)), range(size))


def outline(learned: Task) -> Objective:
    with torch.device("meta"):
        return prepared(learned.model(), learned)


def prepared(model: Any, learned: Task) -> Objective:
    """As on CPUs, where a Llama attends document by document."""
    for part in parts(model).values():
        packed_attention.prepare(part, torch.device("cpu"), "bf16")
    return Objective(model, learned)


class Real(tracing._Alive):
    """Follows real tensors."""

    def _numbers(self, indices: Any) -> list[Any]:
        return indices

    def _places(self, mask: torch.Tensor) -> torch.Tensor:
        return mask.nonzero()

    def _compute(self, *_: Any) -> None:
        pass


def test_what_is_alive_is_what_really_is(learned: Task) -> None:
    dtype = torch.bfloat16
    given = batch(learned, 3)
    found = trace(outline(learned), given, dtype)
    objective = prepared(learned.model().to(dtype), learned).train()
    alive = Real(list(objective.parameters()))
    with alive:
        inputs = {name: value.clone() for name, value in given.items()}
        for value in inputs.values():
            alive._follow(value)
        loss, _ = objective(inputs)
        loss.backward()
    assert max(alive.activations) == pytest.approx(found.activations.max(), rel=0.01)
    assert max(alive.gradients) == found.gradients.max()
    assert alive.flops == found.flops
    size = torch.tensor([], dtype=dtype).element_size()
    weights = sum(weight.numel() for weight in objective.parameters())
    assert found.gradients[0] == 0
    assert found.gradients[-1] == weights * size


@pytest.mark.parametrize("learned", [("causal_lm", "llama"), ("masked_lm", "bert")], indirect=True)
def test_bytes_grow_evenly_with_the_micro_batch(
    learned: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunked_loss.CHUNK_TOKENS, "cpu", 20)  # several of one sequence
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", 1)
    monkeypatch.setattr(chunked_loss, "GROUP_LOGITS", 1)
    two, three, four = (
        trace(outline(learned), batch(learned, size), torch.bfloat16) for size in (2, 3, 4)
    )
    assert two.flops + four.flops == pytest.approx(2 * three.flops, rel=0.02)
    two, four = aligned(two, four)
    between = (two.activations + four.activations) / 2
    assert between.max() == pytest.approx(three.activations.max(), rel=0.05)


@given(st.text("abc", max_size=4), st.text("abc"), st.text("abc"), st.text("abc", max_size=4))
def test_where_operations_part_they_count_as_two_at_their_worst(
    begin: str, one: str, other: str, end: str
) -> None:
    def of(middle: str) -> Trace:
        operations = ["start", *begin, *middle, *end]
        alive = np.array([len(operations) - abs(place - 3) for place in range(len(operations))])
        return Trace(alive, np.zeros_like(alive), operations, flops=1)

    first, second = aligned(of(one), of(other))
    assert len(first.operations) == len(second.operations)
    for made, from_ in ((first, of(one)), (second, of(other))):
        assert len(made.activations) == len(made.gradients) == len(made.operations)
        assert made.activations.max() == from_.activations.max()
    if one == other:
        assert first.operations == of(one).operations


def test_logits_of_a_large_vocabulary_are_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = made("causal_lm", "llama", tmp_path)
    given = batch(learned, 4)
    whole = outline(learned)
    whole.model.lm_head.__class__ = torch.nn.Linear
    monkeypatch.setitem(chunked_loss.CHUNK_TOKENS, "cpu", 20)
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", 1)
    monkeypatch.setattr(chunked_loss, "GROUP_LOGITS", 1)
    chunked, plain = (trace(one, given, torch.float32) for one in (outline(learned), whole))
    logits = 4 * PIECES * int(learned.targets(given))
    assert plain.activations.max() - chunked.activations.max() > logits
    assert chunked.gradients[-1] == plain.gradients[-1]
    assert chunked.flops == pytest.approx(plain.flops, rel=0.02)


@pytest.mark.parametrize("learned", [("causal_lm", "llama"), ("masked_lm", "bert")], indirect=True)
def test_less_is_kept_of_what_is_computed_again(learned: Task) -> None:
    whole, less = outline(learned), outline(learned)
    recompute_activations(less.model)
    given = batch(learned, 4)
    kept, again = (trace(one, given, torch.float32) for one in (whole, less))
    assert again.activations.max() < kept.activations.max()
    assert kept.flops < again.flops < 1.5 * kept.flops


def test_products_are_counted(tmp_path: Path) -> None:
    """6 operations a weight and token (Kaplan et al. 2020, 2.1), and attention's."""
    learned = made("causal_lm", "llama", tmp_path)
    objective = outline(learned)
    matrices = sum(weight.numel() for weight in objective.parameters() if weight.ndim == 2)
    attention = 2 * 12 * LENGTH * 32 * 2  # layers, passes and products, length, width
    found = trace(objective, batch(learned, 2), torch.float32)
    assert found.flops == pytest.approx(2 * LENGTH * (6 * matrices + attention / 2), rel=0.1)
