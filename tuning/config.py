"""The recipe's `tune` section."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from cluster.errors import RecipeError
from cluster.recipe.loading import override
from cluster.recipe.section import Conflict, Invalid, Recipe, Section, nearest, operational

TUNABLE = "finetune."


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


class Tune(Section):
    space: dict[str, Range] = Field(min_length=1)
    """Dotted recipe keys, such as finetune.learning_rate, and what to try for each."""
    trials: int = Field(default=8, ge=1, le=10_000)
    concurrent: int = operational(2, ge=1)
    """Trials at the same time, as far as they fit."""
    metric: str | None = None
    """Of the validation split; by default the task's headline, such as accuracy. Whether more of it
    or less is better, the task knows."""
    early_stopping: bool = True
    """ASHA (Li et al. 2020): at each evaluation the worse trials stop."""
    grace: int = Field(default=1, ge=1)
    """Evaluations that every trial may do before it can be stopped."""
    reduction: int = Field(default=2, ge=2)
    """One in so many trials goes on from each rung."""

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        if recipe.finetune is None:
            yield Conflict("tune", "needs the section finetune: its trials are fine-tunings")
            return
        known_metrics = recipe.finetune.validation_metrics
        if self.metric is not None and self.metric not in known_metrics:
            known = ", ".join(known_metrics)
            hint = nearest(self.metric, known_metrics)
            yield Conflict(
                "tune.metric", f"no such metric {self.metric!r}, there are {known}{hint}"
            )
        for key, values in self.space.items():
            reason = _refusal(recipe, key, values)
            if reason:
                yield Conflict(f"tune.space.{key}", reason)


def _refusal(recipe: Recipe, key: str, values: Range) -> str | None:
    """Why a key cannot be tuned over these values, or None."""
    if not key.startswith(TUNABLE):
        return f"{key!r} is not tunable; keys begin with {TUNABLE}"
    name = key.removeprefix(TUNABLE).partition(".")[0]
    field = type(recipe.finetune).model_fields.get(name)
    fixed = (*recipe.finetune.fixed, *recipe.finetune.row_keys)
    if name in fixed or (field is not None and field.json_schema_extra is not None):
        return f"{key!r} is not tunable: all trials share it"
    for value in values.probes:
        try:
            override(recipe, {"tune": None, key: value})
        except RecipeError as error:
            # Other sections' problems are told by themselves.
            own = [line for line in str(error).splitlines() if f": {key}: " in line]
            if own:
                return own[0].partition(f": {key}: ")[2]
    return None
