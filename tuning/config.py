"""The recipe's `tune` section."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from cluster.errors import RecipeError
from cluster.recipe.loading import override
from cluster.recipe.section import Conflict, Recipe, Section, nearest, operational
from tuning.space import Range, draw

TUNABLE = "finetune."


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

    def drawn(self, seed: int) -> list[dict[str, Any]]:
        """The values of each trial by dotted key."""
        return draw(self.space, self.trials, seed)

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
        refusals = {key: _refusal(recipe, key, values) for key, values in self.space.items()}
        for key, reason in refusals.items():
            if reason:
                yield Conflict(f"tune.space.{key}", reason)
        if not any(refusals.values()):
            yield from self._together(recipe)

    def _together(self, recipe: Recipe) -> Iterator[Conflict]:
        """The first trial whose values, each possible by itself, are not together."""
        if isinstance(_trial(recipe, {}), list):  # which other sections tell
            return
        for number, values in enumerate(self.drawn(recipe.seed)):
            refused = _trial(recipe, values)
            if isinstance(refused, list):
                listed = ", ".join(f"{key} {value}" for key, value in values.items())
                told = refused[0].partition(": ")[2]
                yield Conflict("tune.space", f"trial {number} ({listed}) cannot be: {told}")
                return


def _trial(recipe: Recipe, values: Mapping[str, Any]) -> Recipe | list[str]:
    """The recipe of a trial with these values; or what is wrong with it, in lines."""
    try:
        return override(recipe, {"tune": None, **values})
    except RecipeError as error:
        return str(error).splitlines()


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
        trial = _trial(recipe, {key: value})
        if isinstance(trial, list):
            # Other sections' problems are told by themselves.
            own = [line for line in trial if f": {key}: " in line]
            if own:
                return own[0].partition(f": {key}: ")[2]
        elif _asked(trial) != _asked(recipe):
            return (
                f"{value!r} needs another reference than the recipe itself, and all trials share "
                "what the base was asked; set finetune.reference: scored, or leave it out"
            )
    return None


def _asked(recipe: Recipe) -> tuple[Any, ...]:
    """What the base is asked before the trials, and in which precision."""
    asked = recipe.finetune.asked_of_base
    return (asked, recipe.finetune.precision) if asked else ()
