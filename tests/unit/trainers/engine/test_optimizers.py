"""What decays, and what each optimizer's step is."""

from typing import Any

import pytest
import torch
from torch import nn

from trainers.engine.optimizers import Lion, optimizer
from trainers.engine.training_config import Training


def training(name: Any = "adamw", **keys: Any) -> Training:
    return Training.model_validate({"optimizer": name, "zero": {"stage": 0}, **keys})


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    module[0].weight.requires_grad = False
    made = optimizer(module, training(name, weight_decay=0.1, learning_rate=0.01))
    decayed, others = made.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 4)]
    assert [tuple(p.shape) for p in others["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert decayed["lr"] == 0.01


def test_betas_come_from_the_recipe() -> None:
    for name in ("adamw", "lion"):
        made = optimizer(nn.Linear(2, 2), training(name, beta1=0.8, beta2=0.95))
        assert made.param_groups[0]["betas"] == (0.8, 0.95)


def test_lion_takes_the_steps_of_the_paper() -> None:
    """Two steps by hand, with η = 0.1, λ = 0.5, β = (0.9, 0.99)."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    lion = Lion([{"params": [weight], "weight_decay": 0.5}], lr=0.1, betas=(0.9, 0.99))
    weight.grad = torch.tensor([1.0, -1.0, 0.0])
    lion.step()
    # m = 0: the sign of the gradient, beside θ (1 - 0.05). Then m = 0.01 g.
    assert weight.tolist() == pytest.approx([0.95 - 0.1, -1.9 + 0.1, 2.85])
    # 0.9 * 0.01 - 0.1 * 0.05 > 0: the momentum outweighs a small gradient; and a large one it.
    weight.grad = torch.tensor([-0.05, 1.0, 2.0])
    lion.step()
    assert weight.tolist() == pytest.approx(
        [0.85 * 0.95 - 0.1, -1.8 * 0.95 - 0.1, 2.85 * 0.95 - 0.1]
    )
    momentum = lion.state[weight]["exp_avg"].tolist()
    assert momentum == pytest.approx([0.0099 - 0.0005, -0.0099 + 0.01, 0.02])


def test_lion_skips_parameters_without_a_gradient() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    lion = Lion([{"params": [used, unused], "weight_decay": 0.5}], lr=0.1, betas=(0.9, 0.99))
    used.grad = torch.ones(2)
    lion.step()
    assert unused.tolist() == [1, 1]
    assert used.tolist() != [1, 1]
