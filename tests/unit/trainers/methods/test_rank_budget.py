"""AdaLoRA's budget: how it falls, and to which ranks it goes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.methods.config import AdaLora
from trainers.methods.rank_budget import allocated, budget

SETTINGS = AdaLora(name="adalora", rank=4, initial_rank=8, warmup=0.2, settled=0.3)


def test_the_budget_falls_from_the_initial_rank_to_the_last_one() -> None:
    shares = [budget(SETTINGS, share / 20) for share in range(21)]
    assert shares == sorted(shares, reverse=True)
    assert shares[:5] == [8] * 5
    assert shares[14:] == [4] * 7
    assert shares[9] == round(4 + 4 * 0.5**3)  # half of the way, by the cube


@given(st.integers(1, 5), st.integers(2, 6), st.data())
def test_as_many_ranks_as_the_budget_has_and_one_of_each_layer(
    layers: int, ranks: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, layers * ranks))
    scores = torch.rand(layers, ranks, generator=torch.Generator().manual_seed(number))
    kept = allocated(scores, number)
    assert kept.sum() == max(number, layers)
    assert kept.sum(1).min() >= 1
    assert bool((kept * scores).max(1).values.eq(scores.max(1).values).all())


def test_ranks_that_score_best_are_kept() -> None:
    scores = Tensor([[0.9, 0.8, 0.1], [0.3, 0.2, 0.05]])
    assert allocated(scores, 3).tolist() == [[1, 1, 0], [1, 0, 0]]
