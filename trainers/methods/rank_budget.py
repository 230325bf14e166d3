"""AdaLoRA's budget of ranks (Zhang et al. 2023) on a DeepSpeed engine.

A weight's change is P Λ Q. With I the smoothed |w ∂L/∂w| of an element and U how much it varies, an
element scores s = I U (eqs. 9 to 11), and a singular value with its two vectors (eq. 8)

    S = s(λ) + mean s(p) + mean s(q)

Those that score best are kept, as many as the budget has; the others' λ become 0. Gradients are
there between backward and step, and the optimizer writes λ anew in the step: so importance is taken
before the step, and λ are masked behind it, in the optimizer's own copy. (PEFT's RankAllocator does
both at once, and what it masks comes back.) Of each weight one rank stays: a file of an adapter has
no empty tensors.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from trainers.checkpoints.optimizer_fragments import fragments
from trainers.methods.adapt import ADAPTER, Adapted
from trainers.methods.config import AdaLora

BETA = 0.85
"""Of both moving averages, as in the paper's experiments (appendix)."""
PARTS = ("lora_A", "lora_E", "lora_B")
"""Q, Λ and P, as PEFT calls them."""


class RankBudget:
    """Which ranks of each weight are kept, and why. Its averages are buffers of the model, so that
    they are in its checkpoints."""

    def __init__(self, engine: Any, adapted: Adapted, settings: AdaLora):
        self._engine, self._adapted, self._settings = engine, adapted, settings
        self._layers = _ranked(adapted.model)
        for layer in self._layers.values():
            for part in PARTS:
                shape, device = _weight(layer, part).shape, engine.device
                for kind in ("importance", "variation"):
                    layer.register_buffer(f"{kind}_{part}", torch.zeros(shape, device=device))
            ranks = settings.initial_rank
            layer.register_buffer("kept", torch.ones(ranks, device=engine.device))

    @classmethod
    def of(cls, engine: Any, adapted: Adapted) -> Self | None:
        """None for a method without a budget. Before a checkpoint is restored: it has the
        averages."""
        settings = adapted.adapter
        return cls(engine, adapted, settings) if isinstance(settings, AdaLora) else None

    @property
    def penalty(self) -> Tensor:
        """How far singular vectors are from orthogonal, for the loss of a step: the mean of
        |P^T P - 1| and |Q Q^T - 1| (eq. 4)."""
        distances = []
        for layer in self._layers.values():
            for gram in (_weight(layer, "lora_A"), _weight(layer, "lora_B").T):
                product = gram.float() @ gram.float().T
                distances.append((product - torch.eye(len(product), device=gram.device)).norm())
        return self._settings.orthogonality * torch.stack(distances).mean()

    @torch.no_grad()
    def before_step(self) -> None:
        """Takes the importance of every element; called behind the backward pass of a step."""
        import deepspeed

        for layer in self._layers.values():
            for part in PARTS:
                weight = _weight(layer, part)
                gradient = deepspeed.utils.safe_get_full_grad(weight)
                importance = getattr(layer, f"importance_{part}")
                variation = getattr(layer, f"variation_{part}")
                now = (weight.float() * gradient.float()).abs()
                if not bool(torch.isfinite(now).all()):  # such a step is not taken
                    continue
                importance.lerp_(now, 1 - BETA)
                variation.lerp_((now - importance).abs(), 1 - BETA)

    @torch.no_grad()
    def after_step(self, step: int, fraction: float) -> None:
        """Allocates the budget where it is time, and masks what is not kept."""
        settings = self._settings
        is_settled = fraction > 1 - settings.settled
        is_first_settled = is_settled and not self._fits(settings.rank)
        is_due = fraction > settings.warmup and step % settings.every == 0 and not is_settled
        if is_due or is_first_settled:
            self._allocate(budget(settings, fraction))
        self._mask()
        config: Any = self._adapted.peft.peft_config[ADAPTER]  # type: ignore[union-attr]
        config.rank_pattern = self._pattern

    def _fits(self, rank: int) -> bool:
        kept = sum(int(layer.kept.sum()) for layer in self._layers.values())
        return kept <= max(rank, 1) * len(self._layers)

    def _allocate(self, ranks: int) -> None:
        scores = torch.stack([_scores(layer) for layer in self._layers.values()])
        kept = allocated(scores, ranks * len(self._layers) if ranks else len(self._layers))
        for layer, of_layer in zip(self._layers.values(), kept, strict=True):
            layer.kept.copy_(of_layer)

    def _mask(self) -> None:
        masks = {f"{name}.lora_E.{ADAPTER}": layer.kept for name, layer in self._layers.items()}
        for fragment in fragments(self._engine, writes=True):
            mask = next((masks[name] for name in masks if fragment.name.endswith(name)), None)
            if mask is not None:
                own = mask[fragment.start : fragment.start + fragment.elements]
                view = fragment.of(fragment.tensor)
                view.mul_(own.to(view))

    @property
    def _pattern(self) -> dict[str, list[bool]]:
        """PEFT's `rank_pattern`: which ranks of a weight its file has."""
        return {
            f"{name}.lora_E.{ADAPTER}": layer.kept.bool().tolist()
            for name, layer in self._layers.items()
        }


def averaged_count(model: nn.Module) -> int:
    """Elements that have two averages in fp32, whole on every worker; 0 for other methods."""
    layers = _ranked(model).values()
    return sum(_weight(layer, part).numel() for layer in layers for part in PARTS)


def _ranked(model: nn.Module) -> dict[str, Any]:
    """The layers whose ranks have a budget."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "lora_E") and ADAPTER in module.lora_E
    }


def _weight(layer: nn.Module, part: str) -> Tensor:
    weights: Any = getattr(layer, part)
    return weights[ADAPTER]


def _scores(layer: nn.Module) -> Tensor:
    """(ranks,)."""
    one, two, three = (
        getattr(layer, f"importance_{part}") * getattr(layer, f"variation_{part}") for part in PARTS
    )
    return two[:, 0] + one.mean(1) + three.mean(0)


def budget(settings: AdaLora, fraction: float) -> int:
    """Ranks of each weight, on average, at this point of the training: falls by a cubic schedule
    (eq. 13). Pure."""
    begin, end = settings.warmup, 1 - settings.settled
    left = 1 - min(1.0, max(0.0, (fraction - begin) / (end - begin)))
    return round(settings.rank + (settings.initial_rank - settings.rank) * left**3)


def allocated(scores: Tensor, number: int) -> Tensor:
    """Which of the (layers, ranks) are kept, as 1 and 0: the best of each layer, and then the best
    of all. Pure."""
    best = torch.zeros_like(scores)
    best.scatter_(1, scores.argmax(1, keepdim=True), 1.0)
    ranked = torch.where(best > 0, torch.inf, scores)
    kept = torch.zeros_like(scores).flatten()
    kept[ranked.flatten().topk(max(number, len(scores))).indices] = 1.0
    return kept.view_as(scores)
