"""Choose the winner of a sweep, and apply it to a recipe."""

import dataclasses
import json
import math
from typing import Any

from cluster.recipe.loading import override
from cluster.recipe.section import Recipe
from cluster.store.artifacts import Artifact

WINNER = "winner.json"


@dataclasses.dataclass
class Trial:
    """What a trial tried and how it went."""

    number: int
    values: dict[str, Any]
    status: str = "pending"
    """pending, running, done, stopped (early) or failed."""
    curve: list[float] = dataclasses.field(default_factory=list)
    """The metric at each evaluation."""
    loss: float = math.inf
    """Of the validation data, at the last evaluation."""
    evaluation: int = 0
    """The last one's number; a short training may pass over some."""
    seconds: float = 0.0
    error: str = ""


def choose(trials: list[Trial], mode: str) -> Trial | None:
    """The trial with the best last value among those that ran to their end, and of equal ones that
    with the lowest loss; None if none did.

    A stopped trial's value is of a shorter training: not comparable, and never better used. One
    whose loss is no number has diverged, whatever its metric says.
    """
    finished = [
        trial
        for trial in trials
        if trial.status == "done"
        and trial.curve
        and math.isfinite(trial.curve[-1])
        and math.isfinite(trial.loss)
    ]
    if not finished:
        return None
    sign = 1 if mode == "max" else -1
    return max(finished, key=lambda trial: (sign * trial.curve[-1], -trial.loss, -trial.number))


def with_winner(recipe: Recipe, sweep: Artifact) -> Recipe:
    """The recipe with the values that won the search."""
    winner = json.loads((sweep.path / WINNER).read_text("utf-8"))
    return override(recipe, {"tune": None, **winner["values"]})
