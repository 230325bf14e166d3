"""Draw trials from the space: a pure function of the seed."""

import math
import random
from typing import Any

from tuning.config import Range, Tune


def draw(tune: Tune, seed: int) -> list[dict[str, Any]]:
    """The values of each trial by dotted key.

    Each range is cut into as many strata as there are trials, and every stratum is used once, in an
    order of its own (Latin hypercube, McKay et al. 1979): few trials still cover each range evenly.
    """
    generator = random.Random(f"tune:{seed}")
    columns: dict[str, list[Any]] = {}
    for key, values in tune.space.items():
        strata = list(range(tune.trials))
        generator.shuffle(strata)
        columns[key] = [
            _value(values, (stratum + generator.random()) / tune.trials) for stratum in strata
        ]
    return [{key: column[trial] for key, column in columns.items()} for trial in range(tune.trials)]


def _value(values: Range, share: float) -> Any:
    """The value that lies at `share` in [0, 1) of a range; to three digits, to be readable."""
    if values.choice is not None:
        return values.choice[int(share * len(values.choice))]
    assert values.bounds is not None
    low, high = values.bounds
    if values.log_uniform is not None:
        drawn = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        drawn = low + share * (high - low)
    return min(max(float(f"{drawn:.3g}"), low), high)
