"""The space of a search, and trials drawn from it: a pure function of the seed."""

import math
import random
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Invalid, Section


class Range(Section):
    """Values to try for one key: `choice`, `uniform` or `log_uniform`, one of them."""

    choice: list[Any] | None = Field(default=None, min_length=1)
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give one of choice, uniform, log_uniform")
        if self.bounds is not None:
            low, high = self.bounds
            if low >= high:
                raise ValueError(f"{given[0]}: {low:g} is not below {high:g}")
            if self.log_uniform is not None and low <= 0:
                raise Invalid("log_uniform", f"{low:g} is not above zero")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.uniform or self.log_uniform

    @property
    def probes(self) -> list[Any]:
        """Values that must be valid for every value to be: the ends, and one in between."""
        if self.bounds is None:
            return list(self.choice or ())
        low, high = self.bounds
        return [low, high, low + 0.37 * (high - low)]


def draw(space: Mapping[str, Range], trials: int, seed: int) -> list[dict[str, Any]]:
    """The values of each trial by dotted key.

    Each range is cut into as many strata as there are trials, and every stratum is used once, in an
    order of its own (Latin hypercube, McKay et al. 1979): few trials still cover each range evenly.
    """
    generator = random.Random(f"tune:{seed}")
    columns: dict[str, list[Any]] = {}
    for key, values in space.items():
        strata = list(range(trials))
        generator.shuffle(strata)
        columns[key] = [
            _value(values, (stratum + generator.random()) / trials) for stratum in strata
        ]
    return [{key: column[trial] for key, column in columns.items()} for trial in range(trials)]


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
