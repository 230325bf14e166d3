"""The optimizers, with weight decay for matrices only.

AdamW and Adafactor are torch's. Lion is none of torch's, and DeepSpeed's is compiled where it runs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from trainers.engine.training_config import Training


def optimizer(module: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The optimizer of a training; norms, biases and other vectors do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    learning_rate, betas = settings.learning_rate, (settings.beta1, settings.beta2)
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=1e-8, fused=True)
        case "lion":
            return Lion(groups, lr=learning_rate, betas=betas)
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=learning_rate)


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
            momenta = [self._momentum(parameter) for parameter in moved]
            directions = torch._foreach_lerp(momenta, gradients, 1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moved, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - beta2)

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "exp_avg" not in state:  # AdamW's name, which DeepSpeed's checkpoints look for
            state["exp_avg"] = torch.zeros_like(parameter)
        return state["exp_avg"]
