"""Steps that would do harm: a gradient that is not finite, a loss that leaps. They are not taken.

A leap is what OLMo 2 takes for one (Walsh et al. 2025, §3): a loss more than so many standard
deviations above the mean of the last steps. To roll back is PaLM's remedy (Chowdhery et al. 2022,
§5.1): the weights of an earlier checkpoint, and on with data that neither they nor the leap have
seen.

DeepSpeed itself drops a step whose gradient is not finite, on all ranks alike since it looks at the
global norm, with all that was accumulated for it. So a step is refused by making its loss one.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cluster.errors import Diverged
from cluster.runs.progress import Progress
from trainers.checkpoints.state import LoopState
from trainers.engine.training_config import Anomalies, Training

Restore = Callable[[], LoopState | None]
"""Loads the last good checkpoint, on every rank; None if there is none."""


def is_spike(loss: float, losses: Sequence[float], sigma: float, window: int) -> bool:
    """Whether a step's loss leaps above those before it; never while half the window is unknown.
    Pure."""
    known = losses[-window:]
    if len(known) < max(2, window // 2) or not math.isfinite(loss):
        return False
    return loss - statistics.fmean(known) > sigma * statistics.stdev(known)


def left_out(ranges: Sequence[Sequence[int]], start: int, end: int) -> list[list[int]]:
    """The ranges with another one behind them, or over them. Pure."""
    kept = [list(one) for one in ranges if one[1] < start]
    touched = [one for one in ranges if one[1] >= start]
    return [*kept, [min([start, *(one[0] for one in touched)]), end]]


class Watch:
    """Looks at every step of one rank. Its memory is the LoopState's."""

    def __init__(self, settings: Training, progress: Progress):
        self._settings: Anomalies = settings.anomalies
        self._batch_size = settings.batch_size
        self._scales_loss = settings.precision == "fp16"
        self._progress = progress
        self._refused = False

    def factor(self, state: LoopState, loss_sum: Tensor, targets: float) -> float:
        """What to multiply a step's last loss with: 1, or not a number for a step to refuse. On
        every rank, with its own sum of the loss and all ranks' targets."""
        self._refused = False
        if self._settings.spike == "ignore":
            return 1.0
        loss = _agreed(loss_sum) / targets
        self._refused = is_spike(loss, state.losses, self._settings.sigma, self._settings.window)
        if not self._refused and math.isfinite(loss):
            state.losses = [*state.losses, loss][-self._settings.window :]
        return math.nan if self._refused else 1.0

    def after(self, engine: Any, state: LoopState, loss: float, restore: Restore) -> None:
        """Follows a step, which `state` counts already. Raises Diverged where training is to
        stop."""
        if engine.was_step_applied():
            return
        finite = math.isfinite(_agreed(torch.tensor(loss, device=engine.device)))
        if self._scales_loss and finite and not self._refused:
            return  # too large a loss scale, which the engine lowers
        reason = "its loss leaps" if self._refused else "its gradient is not finite"
        action = self._settings.spike if self._refused else self._settings.non_finite
        start, end = state.samples - self._batch_size, state.samples
        where = f"step {state.step:,} (samples {start:,} to {end - 1:,})"
        recent = [step for step in state.anomalies if step > state.step - self._settings.window]
        state.anomalies = [*recent, state.step]
        if action == "stop" or len(state.anomalies) > self._settings.limit:
            why = f"{where}: {reason}" if action == "stop" else _too_many(state, self._settings)
            raise Diverged(
                f"anomalies: {why}; lower learning_rate or gradient_clipping, warm up for longer, "
                "or look at these samples"
            )
        state.skipped_steps += 1
        restored = restore() if action == "roll_back" else None
        if restored is not None:
            state.rollbacks += 1
            start = restored.samples
            told = f"back to the weights of step {restored.step:,}, on behind these samples"
        else:
            told = "skipped" if action == "skip" else "skipped, as there is no checkpoint yet"
        state.left_out = left_out(state.left_out, start, end)
        if dist.get_rank() == 0:
            self._progress.line(f"{where}: {reason}; {told}")


def _too_many(state: LoopState, settings: Anomalies) -> str:
    return (
        f"{len(state.anomalies)} of the last {settings.window} steps, the last of them "
        f"{state.step:,}, had to be skipped, more than anomalies.limit = {settings.limit}"
    )


def _agreed(value: Tensor) -> float:
    total = value.clone()
    dist.all_reduce(total)
    return float(total)


def drop_steps_not_finite(optimizer: torch.optim.Optimizer) -> None:
    """Has a plain optimizer, as DeepSpeed uses it for fp32 without ZeRO, do what DeepSpeed's own do
    with a gradient that is not finite: nothing, and say so."""

    def drop(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        optimizer.overflow = not math.isfinite(float(norm))  # type: ignore[attr-defined]
        if optimizer.overflow:  # type: ignore[attr-defined]
            for one in parameters:
                one.grad = None

    optimizer.register_step_pre_hook(drop)
