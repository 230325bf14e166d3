"""The optimizers, with weight decay for matrices only.

AdamW and Adafactor are torch's. Lion is none of torch's, and DeepSpeed's is compiled where it runs.
Muon is torch's in bf16 alone, in which CPUs of some kinds multiply 20 times as slowly as in fp32.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from trainers.engine.training_config import Training
from trainers.methods.groups import decays, rate_factor


def optimizer(module: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The optimizer of a training; norms, biases and other vectors do not decay."""
    groups = parameter_groups(module, settings)
    learning_rate, betas = settings.learning_rate, (settings.beta1, settings.beta2)
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=1e-8, fused=True)
        case "lion":
            return Lion(groups, lr=learning_rate, betas=betas)
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=learning_rate)
        case "muon":
            in_layers, (matrices, *others) = _in_layers(module), groups
            first, rest = (
                {**matrices, "params": [one for one in matrices["params"] if one in in_layers]},
                {**matrices, "params": [one for one in matrices["params"] if one not in in_layers]},
            )
            return Muon([first, rest, *others], lr=learning_rate, betas=betas)


def parameter_groups(module: nn.Module, settings: Training) -> list[dict[str, Any]]:
    """What is trained, those that decay first; `rate_factor` is a group's share of the learning
    rate. None is empty."""
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor, is_decayed = rate_factor(name, settings.adapter), decays(name, parameter.ndim)
        group = groups.setdefault(
            (factor, not is_decayed),
            {
                "params": [],
                "weight_decay": settings.weight_decay if is_decayed else 0.0,
                "rate_factor": factor,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _in_layers(module: nn.Module) -> set[nn.Parameter]:
    """The matrices of a model's numbered layers: neither embeddings nor heads."""
    embeddings = {one.weight for one in module.modules() if isinstance(one, nn.Embedding)}
    numbered = {
        parameter
        for name, parameter in module.named_parameters()
        if parameter.ndim == 2 and any(map(str.isdigit, name.split(".")))
    }
    return numbered - embeddings


class Lion(torch.optim.Optimizer):
    """Evolved sign momentum (Chen et al. 2023, algorithm 2), with g the gradient, η the learning
    rate and λ the weight decay:

        θ ← θ - η (sign(β₁ m + (1 - β₁) g) + λ θ),   m ← β₂ m + (1 - β₂) g

    Each element goes its own way, so ZeRO may cut the parameters anywhere.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            gradients = [parameter.grad for parameter in moved]
            momenta = [_momentum(self.state[parameter], parameter) for parameter in moved]
            directions = torch._foreach_lerp(momenta, gradients, 1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moved, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - beta2)


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum (Jordan et al. 2024), with G the gradient of a matrix of the first
    group, η the learning rate and λ the weight decay:

        M ← β M + (1 - β) G,   θ ← θ - η (√max(rows, columns) orthogonalized((1 - β) G + β M) + λ θ)

    So an element moves by about η, as by AdamW, which moves the parameters of the other groups;
    Liu et al. (2025) have a fifth of that. A whole matrix is needed, so ZeRO may not cut it.
    """

    BETA = 0.95

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self._adamw = torch.optim.AdamW(self.param_groups[1:], eps=1e-8, fused=True)
        # The same dictionaries: DeepSpeed puts fp32 copies into them, and the loop a learning rate.
        self._adamw.param_groups, self._adamw.state = self.param_groups[1:], self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        group = self.param_groups[0]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            momentum = _momentum(self.state[parameter], parameter)
            momentum.lerp_(parameter.grad, 1 - self.BETA)
            direction = orthogonalized(parameter.grad.lerp(momentum, self.BETA))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(direction, alpha=-group["lr"] * max(parameter.shape) ** 0.5)
        self._adamw.step()


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """About U Vᵀ of a matrix U Σ Vᵀ, with singular values from 0.7 to 1.2: five Newton-Schulz
    iterations, with the coefficients of Jordan et al. 2024."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    estimate = matrix.T if is_tall else matrix
    estimate = (estimate / estimate.norm().clamp(min=1e-7)).to(_fast_precision(matrix))
    for _ in range(5):
        gram = estimate @ estimate.T
        estimate = 3.4445 * estimate + (-4.7750 * gram + 2.0315 * gram @ gram) @ estimate
    return (estimate.T if is_tall else estimate).to(matrix.dtype)


def _fast_precision(matrix: torch.Tensor) -> torch.dtype:
    """bf16 is enough, but on CPUs of some kinds 20 times as slow."""
    return torch.bfloat16 if matrix.is_cuda else torch.float32


def _momentum(state: dict[str, torch.Tensor], parameter: torch.Tensor) -> torch.Tensor:
    if "exp_avg" not in state:  # AdamW's name, which DeepSpeed's checkpoints look for
        state["exp_avg"] = torch.zeros_like(parameter)
    return state["exp_avg"]
