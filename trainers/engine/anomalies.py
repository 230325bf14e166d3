"""Steps that would do harm are not taken: a gradient that is not finite, or a loss spike.

A spike is defined as in OLMo 2 (Walsh et al. 2025, §3): a loss more than so many standard
deviations above the mean of the last steps. Rolling back is PaLM's remedy (Chowdhery et al. 2022,
§5.1): training goes on from the weights of an earlier checkpoint, behind the samples of the spike.

DeepSpeed itself drops a step whose gradient is not finite, with all that was accumulated for it; it
looks at the global norm, so all ranks do. A step is therefore refused by making its loss NaN.
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
from trainers.engine.training_config import Training

RollBack = Callable[[], LoopState | None]
"""Loads the last good checkpoint, on every rank; None if there is none."""


def is_spike(loss: float, losses: Sequence[float], sigma: float, window: int) -> bool:
    """Whether a step's loss is far above those before it; False until half the window is known."""
    recent = losses[-window:]
    if len(recent) < max(2, window // 2) or not math.isfinite(loss):
        return False
    return loss - statistics.fmean(recent) > sigma * statistics.stdev(recent)


def add_range(ranges: Sequence[Sequence[int]], start: int, end: int) -> list[list[int]]:
    """The ranges with one that ends behind them all, and takes in those it touches."""
    touched = [begin for begin, last in ranges if last >= start]
    apart = [list(one) for one in ranges if one[1] < start]
    return [*apart, [min([start, *touched]), end]]


class AnomalyWatch:
    """Looks at every step of one rank. Its memory is the LoopState's."""

    def __init__(self, settings: Training, progress: Progress):
        self._settings = settings.anomalies
        self._batch_size = settings.batch_size
        self._scales_loss = settings.precision == "fp16"
        self._progress = progress
        self._is_refused = False

    def loss_factor(self, state: LoopState, loss_sum: Tensor, targets: float) -> float:
        """What to multiply a step's last loss with: 1, or NaN for a step to refuse. Every rank
        calls it with its own sum of the loss and all ranks' targets."""
        settings, self._is_refused = self._settings, False
        if settings.spike == "ignore":
            return 1.0
        loss = _sum_over_ranks(loss_sum) / targets
        self._is_refused = is_spike(loss, state.losses, settings.sigma, settings.window)
        if not self._is_refused and math.isfinite(loss):
            state.losses = [*state.losses, loss][-settings.window :]
        return math.nan if self._is_refused else 1.0

    def after_step(self, engine: Any, state: LoopState, loss: float, roll_back: RollBack) -> None:
        """Follows a step, which `state` counts already. Raises Diverged where training is to
        stop."""
        if engine.was_step_applied():
            return
        is_finite = math.isfinite(_sum_over_ranks(torch.tensor(loss, device=engine.device)))
        if self._scales_loss and is_finite and not self._is_refused:
            return  # too large a loss scale, which the engine lowers
        settings = self._settings
        reason = "its loss is a spike" if self._is_refused else "its gradient is not finite"
        action = settings.spike if self._is_refused else settings.non_finite
        start, end = state.samples - self._batch_size, state.samples
        step = f"step {state.step:,} (samples {start:,} to {end - 1:,})"
        recent = [number for number in state.anomalies if number > state.step - settings.window]
        state.anomalies = [*recent, state.step]
        if action == "stop":
            raise _diverged(f"{step}: {reason}")
        if len(state.anomalies) > settings.limit:
            raise _diverged(
                f"{len(state.anomalies)} of the last {settings.window} steps, the last of them "
                f"{state.step:,}, had to be skipped, more than anomalies.limit = {settings.limit}"
            )
        state.skipped_steps += 1
        restored = roll_back() if action == "roll_back" else None
        if restored is not None:
            state.rollbacks += 1
            start = restored.samples
            outcome = f"back to the weights of step {restored.step:,}, on behind these samples"
        else:
            outcome = "skipped" if action == "skip" else "skipped, as there is no checkpoint yet"
        state.left_out = add_range(state.left_out, start, end)
        self._progress.line(f"{step}: {reason}; {outcome}")


def _diverged(reason: str) -> Diverged:
    return Diverged(
        f"anomalies: {reason}; lower learning_rate or gradient_clipping, warm up for longer, "
        "or look at these samples"
    )


def _sum_over_ranks(value: Tensor) -> float:
    total = value.clone()
    dist.all_reduce(total)
    return float(total)


def drop_steps_not_finite(optimizer: Any) -> None:
    """Has a plain optimizer, which DeepSpeed uses for fp32 without ZeRO, drop a gradient that is
    not finite and note it as `overflow`, as DeepSpeed's own do."""

    def drop(optimizer: Any, *_: Any) -> None:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        optimizer.overflow = not torch.nn.utils.get_total_norm(gradients).isfinite()
        if optimizer.overflow:
            optimizer.zero_grad()

    optimizer.register_step_pre_hook(drop)
