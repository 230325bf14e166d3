"""What the model of a training takes, for any micro-batch, before its data is there."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.recipe.section import Recipe
from cluster.store.artifacts import Artifact
from cluster.store.bases import base_folder
from trainers import finetune, pretrain
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.engine import attention
from trainers.engine.training_config import Training
from trainers.methods.adapt import adapt
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
    trained: int
    """Of these; or of an adapter beside them, with the head that is trained whole."""
    traces: Sequence[Trace]
    """Of TRACED. An evaluation takes less than these, even of twice as many sequences."""

    @property
    def flops_each(self) -> float:
        """Of a sequence, forward and back, with activations that are computed again."""
        return (self.traces[1].flops - self.traces[0].flops) / (TRACED[1] - TRACED[0])

    def activations(self, micro_batch: float) -> Any:
        small, large = (trace.activations.astype(np.float64) for trace in self.traces)
        return small + (large - small) * (micro_batch - TRACED[0]) / (TRACED[1] - TRACED[0])

    @property
    def gradients(self) -> Any:
        return self.traces[0].gradients


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
        traces = []
        for size in TRACED:
            with torch.device("meta"):
                model = task.model()
                parameters = build.parameter_count(model)
                if settings.adapter is not None:
                    adapt(model, settings.adapter)
            for part in build.parts(model).values():
                attention.prepare(part, device)
            if settings.activation_checkpointing:
                build.recompute_activations(model)
            batch = task.collate(task.longest_rows(size), range(size))
            traces.append(trace(Objective(model, task), batch, dtype))
        return Measures(parameters, build.trained_count(model), traces)


def _task(recipe: Recipe, section: str, done: Mapping[str, Artifact | None], folder: Path) -> Task:
    """What the section's stage would learn, on a corpus like the one it would learn from."""
    corpora, corpus = recipe.corpora, done.get("shard")
    if corpus is not None:
        pieces = len(tokenizers.load(corpus.folder("tokenizer")))
    elif (base := base_folder(corpora.tokenizer.base, {})) is not None:
        pieces = len(tokenizers.load(base))
    else:
        pieces = corpora.tokenizer.vocabulary_size
    made = synthetic_corpus.corpus(folder, pieces, corpora.sequence_length, rows=max(TRACED))
    if section == "pretrain":
        parents = {stage: parent for stage, parent in done.items() if parent is not None}
        return pretrain.task(recipe, {**parents, "shard": made})
    return finetune.outline(recipe, str(made.path / "tokenizer"), done)
