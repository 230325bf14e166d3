"""The stage `finetune`: a task model from a base model."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.lazy_import import lazy_import
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact, Draft
from cluster.store.bases import base_folder
from trainers.corpora.cleaning.config import of_examples
from trainers.launch.training import fit_stage
from trainers.models.card import describe
from trainers.pretrain import start_of
from trainers.tasks.spec import TaskSection

if TYPE_CHECKING:
    from trainers.tasks.task import Task


def run(job: StageJob) -> dict[str, Any]:
    settings: TaskSection = job.recipe.finetune
    settings.refuse_examples(job.parents["examples"])
    for told in settings.advice:
        job.progress.line(f"warning: {told}")
    metrics = fit_stage(job, functools.partial(task, job.recipe, job.parents), settings)
    describe_model(job.draft, job.recipe, job.parents, metrics)
    title = settings.metrics[settings.headline].title
    return {**metrics, "headline": {f"validation {title}": metrics[settings.headline]}}


def describe_model(
    draft: Draft, recipe: Recipe, parents: Mapping[str, Artifact], metrics: Mapping[str, Any]
) -> None:
    """Adds what the model's Predictor must know, and a model card."""
    settings: TaskSection = recipe.finetune
    describe(
        draft,
        parents,
        settings.task,
        metrics,
        **settings.card(parents["examples"], metrics),
        clean=of_examples(recipe.corpora.clean).model_dump(mode="json"),
    )


def task(recipe: Recipe, parents: Mapping[str, Artifact], scratch: bool = False) -> "Task":
    """What a recipe's fine-tuning learns; `scratch` starts from random weights. Made by its
    workers: a driver needs no torch."""
    from trainers.models.build import Start

    settings: TaskSection = recipe.finetune
    base = base_folder(settings.base, parents, "pretrain")
    assert base is not None, "a recipe has finetune.base or a section pretrain"
    start = start_of(recipe.pretrain, {}) if scratch else Start(base=base)
    rows = parents.get("render", parents["examples"])
    implementation = lazy_import(settings.implementation)
    return implementation(settings, rows, start, base, parents.get("reference"))


def outline(
    recipe: Recipe, tokenizer_folder: str, parents: Mapping[str, Artifact | None]
) -> "Task":
    """The task before its base and its data are made, for a plan. A base may be a config alone,
    with a tokenizer from elsewhere."""
    from trainers.models.build import Start

    settings: TaskSection = recipe.finetune
    base = base_folder(settings.base, parents)
    start = start_of(recipe.pretrain, parents) if base is None else Start(base=base)
    rows = parents.get("render") if settings.is_rendered else parents.get("examples")
    implementation = lazy_import(settings.implementation)
    return implementation(settings, rows, start, tokenizer_folder)
