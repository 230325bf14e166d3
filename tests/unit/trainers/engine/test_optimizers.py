"""What decays, and what each optimizer's step is."""

from typing import Any

import pytest
import torch
from torch import nn

from trainers.engine.optimizers import Lion, optimizer, orthogonalized
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


class Layered(nn.Module):
    """An embedding, a numbered layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 6)])
        self.head = nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers[0](self.embedding(ids)))


def test_muon_moves_the_matrices_of_layers_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    module, twin = Layered(), Layered()
    twin.load_state_dict(module.state_dict())
    keys = {"learning_rate": 0.01, "weight_decay": 0.5}
    muon, adamw = optimizer(module, training("muon", **keys)), optimizer(twin, training(**keys))
    before = module.layers[0].weight.detach().clone()
    for one, made in ((module, muon), (twin, adamw)):
        one(torch.arange(5)).square().sum().backward()
        made.step()
    for name, parameter in module.named_parameters():
        if name != "layers.0.weight":
            assert torch.equal(parameter, twin.get_parameter(name)), name
    moved = (before * (1 - 0.01 * 0.5) - module.layers[0].weight) / (0.01 * 6**0.5)
    gradient = module.layers[0].weight.grad
    assert gradient is not None
    assert torch.allclose(moved, orthogonalized(gradient), atol=1e-4), "whatever its size"
    assert set(muon.state[module.layers[0].weight]) == {"exp_avg"}


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_an_orthogonalized_matrix_has_singular_values_of_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert 0.6 < values.min() <= values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert (left.T @ orthogonalized(matrix) @ right.T).diagonal().min() > 0.6, "the same directions"
