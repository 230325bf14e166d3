"""The stage `pretrain`: a language model from a corpus."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact
from cluster.store.bases import base_folder
from trainers.launch.training import fit_stage
from trainers.models.card import describe
from trainers.tasks.pretraining.config import Pretrain

if TYPE_CHECKING:
    from trainers.models.build import Start
    from trainers.tasks.task import Task


def run(job: StageJob) -> dict[str, Any]:
    settings: Pretrain = job.recipe.pretrain
    metrics = fit_stage(job, functools.partial(task, job.recipe, job.parents), settings)
    describe(job.draft, job.parents, settings.objective, metrics)
    quality = (
        f"perplexity {metrics['perplexity']:.1f}"
        if "perplexity" in metrics
        else f"accuracy {metrics['accuracy']:.4f}"
    )
    job.progress.line(
        f"{metrics['parameters']:,} parameters, {metrics['tokens']:,} tokens in "
        f"{metrics['train_seconds']:.0f} s ({metrics['tokens_per_second']:,} a second, "
        f"{metrics['precision']}); validation {quality}"
    )
    return metrics


def task(recipe: Recipe, parents: Mapping[str, Artifact]) -> "Task":
    """What a recipe's pretraining learns. Made by its workers: a driver needs no torch."""
    from trainers.tasks.pretraining.causal_lm import CausalLM
    from trainers.tasks.pretraining.masked_lm import MaskedLM
    from trainers.tasks.pretraining.replaced_tokens import ReplacedTokens
    from trainers.tasks.pretraining.span_corruption import SpanCorruption

    settings: Pretrain = recipe.pretrain
    start = start_of(settings, parents)
    read = (parents["shard"], start, recipe.seed, recipe.cluster.cache_gb, settings.shuffle_window)
    masking = (settings.mask_probability, settings.whole_words)
    match settings.objective:
        case "masked_lm":
            return MaskedLM(*read, *masking)
        case "causal_lm":
            return CausalLM(*read)
        case "replaced_tokens":
            generator = (settings.generator_size, settings.discriminator_weight)
            return ReplacedTokens(*read, *masking, *generator)
        case "span_corruption":
            return SpanCorruption(*read, settings.mask_probability, settings.mean_span)


def start_of(settings: Pretrain, parents: Mapping[str, Artifact | None]) -> "Start":
    """What a pretraining starts from. Imports torch."""
    from trainers.models.build import Start

    like, base = base_folder(settings.like, {}), base_folder(settings.base, parents)
    return Start(settings.model, like, base)
