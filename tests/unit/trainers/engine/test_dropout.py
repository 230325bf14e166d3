"""Dropout on CPUs has torch's distribution, scale and gradient, and follows torch's generator."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainers.engine.dropout import Dropout, dropout, prepare


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_the_chance_says(chance: float, dtype: torch.dtype) -> None:
    torch.manual_seed(17)
    values = torch.ones(1000, 1001, dtype=dtype)  # no multiple of the four of a draw
    found = dropout(values, chance)
    assert found.dtype == dtype
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - chance)], rel=4e-3)
    share = (found == 0).float().mean()
    assert abs(float(share) - chance) < 5 * (chance * (1 - chance) / values.numel()) ** 0.5
    rows = (found == 0).float().mean(1)
    assert float(rows.std()) == pytest.approx((chance * (1 - chance) / 1001) ** 0.5, rel=0.1), (
        "each by itself"
    )


def test_the_gradient_goes_where_the_values_went() -> None:
    values = torch.randn(7, 33, dtype=torch.float64, requires_grad=True)
    found = dropout(values, 0.3)
    toward = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * toward).sum(), [values])
    torch.testing.assert_close(gradient * values, found * toward)
    assert 0 < int((gradient == 0).sum()) < gradient.numel()


def test_masks_follow_from_torchs_seed() -> None:
    values = torch.ones(64, 64)

    def twice(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([dropout(values, 0.5), dropout(values, 0.5)])

    assert torch.equal(twice(1), twice(1))
    assert not torch.equal(twice(1), twice(2))
    first, second = twice(1)
    assert not torch.equal(first, second)


def test_activations_that_are_computed_anew_drop_the_same() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Dropout(0.5), nn.Linear(8, 8))
    values = torch.randn(16, 8)

    def gradient(recomputed: bool) -> torch.Tensor:
        torch.manual_seed(17)
        found = checkpoint(model, values, use_reentrant=False) if recomputed else model(values)
        return torch.autograd.grad(found.square().sum(), [model[0].weight])[0]  # type: ignore[arg-type,union-attr]

    assert torch.equal(gradient(True), gradient(False))


@pytest.mark.parametrize("chance", [0.0, 1e-9, 1.0])
def test_none_or_all_are_torchs_own(chance: float) -> None:
    assert torch.equal(dropout(torch.ones(9), chance), torch.full((9,), 1 - round(chance)))


def test_layers_of_a_model_are_replaced_on_cpus_alone() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.25)), nn.Dropout1d(0.5))
    on_gpu, on_cpu = copy.deepcopy(plain), copy.deepcopy(plain)
    prepare(on_gpu, "cuda")
    prepare(on_cpu, "cpu")
    assert [type(one) for one in on_gpu.modules()] == [type(one) for one in plain.modules()]
    replaced = [one for one in on_cpu.modules() if type(one) is Dropout]
    assert [one.p for one in replaced] == [0.25]
    assert type(on_cpu[2]) is nn.Dropout1d
    on_cpu.eval()
    assert torch.equal(on_cpu[1](values := torch.ones(2, 4)), values)
