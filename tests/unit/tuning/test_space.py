"""Few trials still cover each range evenly."""

import math
from collections import Counter
from typing import Any

import pytest

from tuning.config import Tune

RATE, DECAY, SIZE = "finetune.learning_rate", "finetune.weight_decay", "finetune.batch_size"


def space(trials: int) -> Tune:
    ranges = {
        RATE: {"log_uniform": [1e-5, 1e-2]},
        DECAY: {"uniform": [0.0, 0.3]},
        SIZE: {"choice": [8, 16, 32]},
    }
    return Tune.model_validate({"space": ranges, "trials": trials})


def test_trials_follow_from_the_seed() -> None:
    assert space(6).drawn(17) == space(6).drawn(17)
    assert space(6).drawn(17) != space(6).drawn(18)


@pytest.mark.parametrize("trials", [1, 2, 6, 12, 60])
def test_every_range_is_covered_evenly(trials: int) -> None:
    made = space(trials).drawn(17)
    assert [set(values) for values in made] == [{RATE, DECAY, SIZE}] * trials
    # Each of as many equal parts of a range as there are trials is used once, but for rounding.
    rates = sorted((math.log10(values[RATE]) + 5) / 3 * trials for values in made)
    decays = sorted(values[DECAY] / 0.3 * trials for values in made)
    for number in range(trials):
        assert number - 0.1 < rates[number] < number + 1.1
        assert number - 0.1 < decays[number] < number + 1.1
    if trials % 3 == 0:
        times = Counter(values[SIZE] for values in made)
        assert times == dict.fromkeys((8, 16, 32), trials // 3)


@pytest.mark.parametrize(
    "values",
    [
        {"uniform": [0.12345, 0.12349]},
        {"log_uniform": [1.2345e-5, 1.2349e-5]},
        {"uniform": [-3.0, 2.0]},
    ],
)
def test_values_stay_within_bounds_also_when_rounded(values: dict[str, Any]) -> None:
    ((low, high),) = values.values()
    made = Tune.model_validate({"space": {RATE: values}, "trials": 20}).drawn(17)
    assert all(low <= trial[RATE] <= high for trial in made)


def test_values_are_readable() -> None:
    assert all(len(f"{values[RATE]:.3g}") <= 8 for values in space(20).drawn(17))
    assert all(values[RATE] == float(f"{values[RATE]:.3g}") for values in space(20).drawn(17))


def test_keys_are_drawn_independently() -> None:
    made = space(60).drawn(17)
    by_rate = sorted(range(60), key=lambda trial: made[trial][RATE])
    by_decay = sorted(range(60), key=lambda trial: made[trial][DECAY])
    assert sum(one == other for one, other in zip(by_rate, by_decay, strict=True)) < 6
