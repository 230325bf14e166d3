"""The stage `pretrain`: a language model from a corpus."""

from typing import Any

from cluster.pipeline import StageJob
from trainers.config import Pretrain
from trainers.export import describe
from trainers.launch import fit_stage
from trainers.model import Start
from trainers.tasks.causal_lm import CausalLM
from trainers.tasks.masked_lm import MaskedLM


def run(job: StageJob) -> dict[str, Any]:
    settings: Pretrain = job.recipe.pretrain
    corpus, seed = job.parents["shard"], job.recipe.seed
    start = Start(shape=settings.model, base=settings.base)
    read = (corpus, start, seed, job.recipe.cluster.cache_gb, settings.shuffle_window)
    task: MaskedLM | CausalLM = (
        MaskedLM(*read, settings.mask_probability, settings.whole_words)
        if settings.objective == "masked_lm"
        else CausalLM(*read)
    )
    metrics = fit_stage(job, task, settings)
    describe(job.draft, job.parents, settings.objective, metrics)
    job.progress.line(
        f"{metrics['parameters']:,} parameters, {metrics['tokens']:,} tokens in "
        f"{metrics['train_seconds']:.0f} s ({metrics['tokens_per_second']:,} a second, "
        f"{metrics['precision']}); validation perplexity {metrics['perplexity']:.1f}"
    )
    return metrics
