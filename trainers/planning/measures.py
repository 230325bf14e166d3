"""What the model of a training takes, for any micro-batch, before its data is there."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.errors import UserError
from cluster.recipe.loading import override
from cluster.recipe.section import Recipe
from cluster.store.artifacts import Artifact
from cluster.store.bases import base_folder
from trainers import finetune, pretrain
from trainers.corpora.feeding.feed import Rows, TokenRows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import read_arrow
from trainers.engine import attention
from trainers.engine.training_config import Training
from trainers.methods.adapt import adapt
from trainers.methods.layers import rounded_layers, trained_whole
from trainers.methods.rank_budget import averaged_count
from trainers.models import build, chunked_loss, packed_attention
from trainers.models.lean_imports import transformers
from trainers.planning import synthetic_corpus
from trainers.planning.tracing import Trace, aligned, trace
from trainers.tasks.task import Objective, Task

TRACED = (2, 4)
"""Micro-batches that are traced. Between and beyond, each moment's bytes grow evenly."""
SAMPLED = 512
"""Rows whose lengths are looked at."""
SHAPES = Path(__file__).parent / "shapes"
"""Of bases that shipped recipes have of the hub behind a licence, a config.json by their ids: a
plan needs no more, and neither the hub nor the licence."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """What a training's model takes, for any micro-batch."""

    parameters: int
    trained: int
    """Of these; or of an adapter beside them, with the head that is trained whole."""
    rounded: int
    """Of the parameters, those that a base in 4 or 8 bits has so, if it is one."""
    averaged: int
    """Of the trained ones, those whose importance AdaLoRA averages."""
    encodes_and_decodes: bool
    """Whether the model has an encoder that reads and a decoder that writes."""
    traces: Sequence[Trace]
    """Of TRACED, with rows as long as there can be. An evaluation takes less than these, even of
    twice as many sequences."""
    usual_length: float
    """Of a row, as a share of one as long as there can be; 1 until that is known."""

    @property
    def flops_each(self) -> float:
        """Of a row, forward and back, with activations that are computed again."""
        of_longest = (self.traces[1].flops - self.traces[0].flops) / (TRACED[1] - TRACED[0])
        return of_longest * self.usual_length

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
    recipe = _with_shape(recipe, section, done)
    settings: Training = getattr(recipe, section)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        task = _task(recipe, section, done, Path(folder))
        traces, rounded = [], 0
        for size in TRACED:
            with torch.device("meta"):
                model = task.model()
                parameters = build.parameter_count(model)
                if settings.adapter is not None:
                    rounded = _could_be_rounded(model)
                    adapt(model, settings.adapter)
            for part in build.parts(model).values():
                attention.prepare(part, device)
                if device == "cpu" and settings.sp_size == 1:  # as in engine/loop.py
                    packed_attention.prepare(
                        part, torch.device(device), precision, settings.compile
                    )
            if settings.activation_checkpointing:
                build.recompute_activations(model)
            batch = task.collate(task.longest_rows(size), range(size))
            with _chunks_as_on(device):
                traces.append(trace(Objective(model, task), batch, dtype))
        return Measures(
            parameters,
            build.trained_count(model),
            rounded,
            averaged_count(model),
            build.parts(model)[""].config.is_encoder_decoder,
            aligned(*traces),
            _usual_length(recipe, task, done) if section == "finetune" else 1.0,
        )


@contextlib.contextmanager
def _chunks_as_on(device: str) -> Iterator[None]:
    """What is traced is on the CPU, where a loss in chunks has smaller ones than on a GPU."""
    known = chunked_loss.CHUNK_TOKENS["cpu"]
    chunked_loss.CHUNK_TOKENS["cpu"] = chunked_loss.CHUNK_TOKENS[device]
    try:
        yield
    finally:
        chunked_loss.CHUNK_TOKENS["cpu"] = known


def _could_be_rounded(model: Any) -> int:
    """Parameters of the layers that `base_bits` takes."""
    layers = rounded_layers(model, trained_whole(model)).values()
    return sum(layer.weight.numel() for layer in layers)


def _usual_length(recipe: Recipe, task: Task, done: Mapping[str, Artifact | None]) -> float:
    """Which takes rows, and where these are still texts the tokenizer that cuts them."""
    data, is_rendered = done.get(data_stage("finetune", done)), "render" in done
    if data is None or not (is_rendered or _tokenizer(recipe, done)):
        return 1.0
    table = data.path / "train.arrow"
    rows: Rows = TokenRows(read_arrow(table)) if is_rendered else task.rows("train")
    places = np.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).astype(np.int64)
    lengths = [task.length(row) for row in rows.take(places)]
    (longest,) = task.longest_rows(1)
    return sum(lengths) / len(lengths) / task.length(longest)


def data_stage(section: str, done: Mapping[str, Artifact | None]) -> str:
    """The stage that makes what a section learns from; `done` has those of its recipe."""
    if section == "pretrain":
        return "shard"
    return "render" if "render" in done else "examples"


def _with_shape(recipe: Recipe, section: str, done: Mapping[str, Artifact | None]) -> Recipe:
    """With the config that raymill has of the section's base, a hub id, if it has one."""
    base = base_folder(getattr(recipe, section).base, done)
    if base is None or Path(base).is_absolute() or not (SHAPES / base / "config.json").is_file():
        return recipe
    return override(recipe, {f"{section}.base": str(SHAPES / base)})


def _task(recipe: Recipe, section: str, done: Mapping[str, Artifact | None], folder: Path) -> Task:
    """What the section's stage would learn, on a corpus like the one it would learn from."""
    base = base_folder(getattr(recipe, section).base, done)
    config = None if base is None else _config(f"{section}.base", base)
    corpora, corpus = recipe.corpora, done.get("shard")
    if corpus is not None:
        pieces = len(tokenizers.load(corpus.folder("tokenizer")))
    elif config is not None:
        pieces = config.get_text_config().vocab_size
    elif (known := base_folder(corpora.tokenizer.base, {})) is not None:
        pieces = len(tokenizers.load(known))
    else:
        pieces = corpora.tokenizer.vocabulary_size
    made = synthetic_corpus.corpus(folder, pieces, corpora.sequence_length, rows=max(TRACED))
    if section == "pretrain":
        parents = {stage: parent for stage, parent in done.items() if parent is not None}
        return pretrain.task(recipe, {**parents, "shard": made})
    tokenizer = _tokenizer(recipe, done) or str(made.folder("tokenizer"))
    return finetune.outline(recipe, tokenizer, done)


def _tokenizer(recipe: Recipe, done: Mapping[str, Artifact | None]) -> str | None:
    """Where the tokenizer of a fine-tuning is: its base's, or that of the corpus; None while
    neither is to be had."""
    base, corpus = base_folder(recipe.finetune.base, done), done.get("shard")
    if base is not None and not _is_config_alone(base):
        return base
    return None if corpus is None else str(corpus.folder("tokenizer"))


def _is_config_alone(base: str) -> bool:
    folder, others = Path(base), ("*.safetensors", "*token*", "vocab*")
    return folder.is_dir() and not any(path for glob in others for path in folder.glob(glob))


def _config(key: str, base: str) -> Any:
    """Of Transformers. Raises UserError where a hub id cannot be had."""
    try:
        return transformers.AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{key}: {base!r} cannot be had: {reason} A plan needs no more of it than its "
            f"config.json: put that into a folder, and --set {key}=FOLDER"
        ) from error
