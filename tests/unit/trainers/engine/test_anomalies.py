"""Spikes, and steps that are not taken: what follows, and what is recorded."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Diverged
from tests.fakes import Notes
from trainers.checkpoints.state import LoopState
from trainers.engine.anomalies import AnomalyWatch, add_range, drop_steps_not_finite, is_spike
from trainers.engine.training_config import Training

STEADY = [2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 2.0, 2.1]


@pytest.mark.parametrize(
    ("loss", "losses", "expected"),
    [
        (4.0, STEADY, True),
        (2.2, STEADY, False),
        (0.1, STEADY, False),
        (math.nan, STEADY, False),
        (4.0, [3.0, 9.0, *STEADY], True),
        (4.0, STEADY[:3], False),
        (4.0, [], False),
    ],
)
def test_a_spike_is_above_the_mean_of_the_last_steps(
    loss: float, losses: list[float], expected: bool
) -> None:
    assert is_spike(loss, losses, sigma=6.0, window=8) == expected


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=8))
def test_ranges_contain_each_left_out_sample_once(jumps: list[tuple[int, int]]) -> None:
    """Steps go on; a roll-back adds samples of earlier steps."""
    ranges: list[list[int]] = []
    expected: set[int] = set()
    position = 0
    for back, forth in jumps:
        end = position + forth
        start = max(0, position - back)
        ranges = add_range(ranges, start, end)
        expected |= set(range(start, end))
        position = end + forth
        assert {one for first, last in ranges for one in range(first, last)} == expected
        flat = [end for one in ranges for end in one]
        assert flat == sorted(set(flat)), "apart, and in order"


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Engine:
    """An engine that takes no step."""

    device = "cpu"

    def __init__(self, applied: bool = False):
        self._applied = applied

    def was_step_applied(self) -> bool:
        return self._applied


def watch(notes: Notes, **keys: Any) -> AnomalyWatch:
    anomalies = {name: keys.pop(name) for name in list(keys) if name not in ("precision",)}
    values = {"batch_size": 4, "anomalies": anomalies, "gpus_per_worker": 1, **keys}
    return AnomalyWatch(Training.model_validate(values), notes)


def at(step: int, **keys: Any) -> LoopState:
    return LoopState(step=step, samples=step * 4, **keys)


def no_checkpoint() -> None:
    return None


def test_a_step_that_was_taken_changes_nothing() -> None:
    state, notes = at(3), Notes()
    watch(notes).after_step(Engine(applied=True), state, 1.0, no_checkpoint)
    assert state == at(3)
    assert notes.lines == []


def test_a_line_says_which_samples_a_skipped_step_left_out() -> None:
    state, notes = at(3), Notes()
    watch(notes).after_step(Engine(), state, math.nan, no_checkpoint)
    assert state == at(3, anomalies=[3], skipped_steps=1, left_out=[[8, 12]])
    assert notes.lines == ["step 3 (samples 8 to 11): its gradient is not finite; skipped"]


def test_a_roll_back_leaves_out_the_samples_since_the_checkpoint() -> None:
    state, notes = at(9, left_out=[[4, 8], [28, 32]]), Notes()
    rolling = watch(notes, non_finite="roll_back")
    rolling.after_step(Engine(), state, math.nan, lambda: at(6))
    assert (state.step, state.samples, state.rollbacks) == (9, 36, 1)
    assert state.left_out == [[4, 8], [24, 36]]
    assert "back to the weights of step 6" in notes.lines[0]
    rolling.after_step(Engine(), state, math.nan, no_checkpoint)
    assert state.rollbacks == 1
    assert "no checkpoint yet" in notes.lines[1]


def test_an_anomaly_may_stop_the_training() -> None:
    with pytest.raises(Diverged, match=r"anomalies: step 3 .*: its gradient is not finite"):
        watch(Notes(), non_finite="stop").after_step(Engine(), at(3), math.nan, no_checkpoint)


def test_too_many_of_the_last_steps_end_the_run() -> None:
    state, watching = at(0), watch(Notes(), limit=2, window=10)
    for step in (1, 5, 20, 25, 31):  # never three within ten
        state.step = step
        watching.after_step(Engine(), state, math.nan, no_checkpoint)
    assert state.skipped_steps == 5
    state.step = 34
    with pytest.raises(Diverged, match=r"3 of the last 10 steps.*anomalies\.limit = 2"):
        watching.after_step(Engine(), state, math.nan, no_checkpoint)


@pytest.mark.parametrize("loss", [2.0, math.inf])
def test_a_loss_scale_that_is_too_large_is_no_anomaly(loss: float) -> None:
    state = at(3)
    watch(Notes(), precision="fp16").after_step(Engine(), state, loss, no_checkpoint)
    assert state.skipped_steps == (0 if loss == 2.0 else 1)


def test_a_spike_is_refused_before_its_step_and_not_remembered() -> None:
    state, notes = at(8, losses=STEADY), Notes()
    watching = watch(notes, spike="skip", window=8)
    assert watching.loss_factor(state, torch.tensor(10.0), 5) == 1.0
    assert state.losses == [*STEADY[1:], 2.0]
    assert math.isnan(watching.loss_factor(state, torch.tensor(50.0), 5))
    assert state.losses == [*STEADY[1:], 2.0]
    watching.after_step(Engine(), state, 10.0, no_checkpoint)
    assert "its loss is a spike; skipped" in notes.lines[0]
    assert watching.loss_factor(state, torch.tensor(math.nan), 5) == 1.0, (
        "the engine drops it itself"
    )
    assert state.losses == [*STEADY[1:], 2.0]


def test_spikes_are_ignored_by_default() -> None:
    state = at(8, losses=STEADY)
    assert watch(Notes()).loss_factor(state, torch.tensor(1e9), 5) == 1.0


def test_a_plain_optimizer_drops_a_gradient_that_is_not_finite() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    drop_steps_not_finite(optimizer)
    parameter.grad = torch.tensor([1.0, math.nan, 1.0])
    optimizer.step()
    assert optimizer.overflow  # type: ignore[attr-defined]
    assert torch.equal(parameter, torch.ones(3))
    assert not optimizer.state[parameter]
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert not optimizer.overflow  # type: ignore[attr-defined]
    assert not torch.equal(parameter, torch.ones(3))
