"""The stage `finetune`: a task model from a base model, with the winner of the search if there is
one."""

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.recipe.loading import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact
from trainers.corpora.examples.stage import label_order
from trainers.launch.training import fit_stage
from trainers.models.card import describe
from trainers.tasks.config import Finetune

if TYPE_CHECKING:
    from trainers.tasks.classify import Classify


def run(job: StageJob) -> dict[str, Any]:
    recipe = with_winner(job.recipe, job.parents)
    settings: Finetune = recipe.finetune
    labels = label_order(job.parents["examples"], settings.labels)
    metrics = fit_stage(job, functools.partial(classifier, recipe, job.parents), settings)
    describe(
        job.draft,
        job.parents,
        settings.task,
        metrics,
        labels=labels,
        max_length=settings.max_length,
    )
    return metrics


def classifier(
    recipe: Recipe, parents: Mapping[str, Artifact], scratch: bool = False
) -> "Classify":
    """The classification task of a recipe; `scratch` starts from random weights.
    Made by its workers: a driver needs no torch."""
    from trainers.models.build import Start
    from trainers.tasks.classify import Classify

    settings: Finetune = recipe.finetune
    base = settings.base or str(parents["pretrain"].path)
    pretrain = recipe.pretrain
    start = Start(pretrain.model, pretrain.like) if scratch else Start(base=base)
    return Classify(
        examples=parents["examples"],
        start=start,
        tokenizer_folder=base,
        labels=label_order(parents["examples"], settings.labels),
        max_length=settings.max_length,
        dropout=settings.dropout,
        label_smoothing=settings.label_smoothing,
    )


def outline(recipe: Recipe, tokenizer_folder: str, examples: Artifact | None) -> "Classify":
    """The task before its base and its data are made: of as many labels as are known, or two."""
    from trainers.models.build import Start
    from trainers.tasks.classify import Classify

    settings: Finetune = recipe.finetune
    if settings.base is not None:
        start = Start(base=settings.base)
    else:
        pretrain = recipe.pretrain
        start = Start(pretrain.model, pretrain.like, pretrain.base)
    labels = settings.labels or ["0", "1"]
    return Classify(
        examples=examples,  # type: ignore[arg-type]  # read for the labels alone
        start=start,
        tokenizer_folder=settings.base or tokenizer_folder,
        labels=label_order(examples, settings.labels) if examples else labels,
        max_length=settings.max_length,
        dropout=settings.dropout,
        label_smoothing=settings.label_smoothing,
    )


def with_winner(recipe: Recipe, parents: Mapping[str, Artifact]) -> Recipe:
    """The recipe with the values that won the search."""
    if "tune" not in parents:
        return recipe
    winner = json.loads((parents["tune"].path / "winner.json").read_text("utf-8"))
    return recipe.override({"tune": None, **winner["values"]})
