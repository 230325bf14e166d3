"""What the model of a training takes, for any micro-batch, before its data is there."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.recipe.section import Recipe
from cluster.store.artifacts import Artifact
from trainers import finetune, pretrain
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.engine import attention
from trainers.engine.training_config import Training
from trainers.models import build
from trainers.planning import synthetic_corpus
from trainers.planning.tracing import Trace, trace
from trainers.tasks.task import Objective, Task

TRACED = (2, 4)
"""Micro-batches that are traced. Between and beyond, each moment's bytes grow evenly."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """What a training's model takes, for any micro-batch."""

    parameters: int
    training: tuple[Trace, Trace]
    evaluation: tuple[Trace, Trace]

    @property
    def flops_each(self) -> float:
        """Of a sequence, forward and back, with activations that are computed again."""
        return (self.training[1].flops - self.training[0].flops) / (TRACED[1] - TRACED[0])

    def activations(self, micro_batch: float) -> Any:
        return _grown(self.training, micro_batch)

    @property
    def gradients(self) -> Any:
        return self.training[0].gradients

    def evaluating(self, micro_batch: float) -> float:
        return float(_grown(self.evaluation, micro_batch).max())


def _grown(traces: tuple[Trace, Trace], micro_batch: float) -> Any:
    one, other = (each.activations.astype(np.float64) for each in traces)
    return one + (other - one) * (micro_batch - TRACED[0]) / (TRACED[1] - TRACED[0])


def measure(
    recipe: Recipe,
    section: str,
    done: Mapping[str, Artifact | None],
    precision: str,
    device: str,
) -> Measures:
    """Traces of a section's training. Raises UserError for what training would refuse."""
    settings: Training = getattr(recipe, section)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        task = _task(recipe, section, done, Path(folder))
        found = []
        for size in TRACED:
            batch = task.collate(task.longest_rows(size), range(size))
            for training in (True, False):
                with torch.device("meta"):
                    made = task.model()
                for part in build.parts(made).values():
                    attention.prepare(part, device, precision)
                if settings.activation_checkpointing:
                    build.recompute_activations(made)
                found.append(trace(Objective(made, task), batch, dtype, training))
        return Measures(build.parameter_count(made), (found[0], found[2]), (found[1], found[3]))


def _task(recipe: Recipe, section: str, done: Mapping[str, Artifact | None], folder: Path) -> Task:
    """What the section's stage would learn, on a corpus like the one it would learn from."""
    corpora, corpus = recipe.corpora, done.get("shard")
    if corpus is not None:
        pieces = len(tokenizers.load(corpus.folder("tokenizer")))
    elif corpora.tokenizer.base is not None:
        pieces = len(tokenizers.load(corpora.tokenizer.base))
    else:
        pieces = corpora.tokenizer.vocabulary_size
    made = synthetic_corpus.corpus(folder, pieces, corpora.sequence_length, rows=max(TRACED))
    if section == "pretrain":
        known = {stage: parent for stage, parent in done.items() if parent is not None}
        return pretrain.task(recipe, {**known, "shard": made})
    return finetune.outline(recipe, str(made.path / "tokenizer"), done)
