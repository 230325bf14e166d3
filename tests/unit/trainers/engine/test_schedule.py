"""The learning rate rises and falls as each schedule says."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainers.engine.schedule import rate, steps
from trainers.engine.training_config import Training


@pytest.mark.parametrize(
    ("epochs", "samples", "expected"), [(1, 100, 10), (1, 101, 11), (1.1, 100, 11), (0.05, 100, 1)]
)
def test_the_last_step_may_take_samples_of_the_next_epoch(
    epochs: float, samples: int, expected: int
) -> None:
    assert steps(Training(batch_size=10, epochs=epochs), samples) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.5 * (1 + 0.5**0.5), 0.5, 0.5 * (1 - 0.5**0.5)]),
        ("wsd", [0.5, 1.0, 1.0, 1.0, 1.0, 1 - 0.5**0.5]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_rises_and_falls(kind: Any, expected: list[float]) -> None:
    """Ten steps, two of them to warm up, and four in which wsd falls; some of the others."""
    settings = Training(learning_rate=0.01, warmup=0.2, schedule=kind, decay=0.4)
    fractions = [0.0, 0.1, 0.2, 0.4, 0.6, 0.8]
    rates = [rate(settings, fraction, 0.1) for fraction in fractions]
    assert rates == pytest.approx([0.01 * share for share in expected])


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.001, 0.06, 0.5, 0.8])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_every_rate_is_above_zero_and_at_most_the_peak(
    steps: int, warmup: float, kind: Any
) -> None:
    settings = Training(learning_rate=1, warmup=warmup, schedule=kind)
    rates = [rate(settings, step / steps, 1 / steps) for step in range(steps)]
    assert all(0 < one <= 1 for one in rates)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_wsd_cannot_warm_up_and_decay_at_once() -> None:
    assert Training(schedule="linear", warmup=0.9).decay == 0.2, "of no account without wsd"
    with pytest.raises(ValidationError, match=r"decay = 0\.2 and warmup = 0\.9 are over 1"):
        Training(schedule="wsd", warmup=0.9)
