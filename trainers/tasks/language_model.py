"""Pretraining: masked and causal language modelling on packed sequences.

Masked (Devlin et al. 2019): of the tokens chosen, 80 % become [MASK], 10 % a random token, 10 %
stay; the loss is the cross-entropy of the original tokens there. What is chosen follows from the
seed and the sample's number, so it differs in every epoch and is the same at any number of workers.

Causal: the cross-entropy of each next token of the same document.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cluster.artifacts import Artifact
from trainers.corpora.feeding.feed import Packed
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import segment_ids
from trainers.model import Start, build, packed_inputs, refuse_longer
from trainers.tasks import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PREDICTION_HEADS = {
    "bert": lambda model: model.cls,
    "roberta": lambda model: model.lm_head,
    "electra": lambda model: lambda x: model.generator_lm_head(model.generator_predictions(x)),
    "modernbert": lambda model: lambda x: model.decoder(model.head(x)),
}
"""From hidden states to logits. Known heads run at the masked positions alone, which spares most of
the largest matrix product of a small model."""


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    corpus: Artifact
    start: Start
    seed: int
    cache_gb: float
    shuffle_window: int | None = None

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        return tokenizers.load(self.corpus.folder("tokenizer"))

    def _model(self, head: str) -> "PreTrainedModel":
        model = build(self.start, head, self.tokenizer())
        if self.start.base is not None:  # a shape is checked with the recipe
            refuse_longer(model, "corpora.sequence_length", self.rows("train").sequence_length)
        return model

    def rows(self, split: str) -> Packed:
        window = self.shuffle_window if split == "train" else None
        return Packed(self.corpus, split, self.cache_gb, window)

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        loss = sums["loss"] / sums["targets"]
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "accuracy": sums["correct"] / sums["targets"],
        }

    def _packed(
        self, rows: Sequence[dict[str, Any]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokens and segments, (batch, length)."""
        ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)
        return ids, segment_ids([row["piece_lengths"] for row in rows], ids.shape[1])


@dataclasses.dataclass(frozen=True)
class MaskedLM(LanguageModel):
    mask_probability: float = 0.15

    def model(self) -> "PreTrainedModel":
        return self._model("masked_lm")

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        ids, segments = self._packed(rows)
        is_special, mask, size = self._tokens
        labels = np.full_like(ids, IGNORED)
        maskable = (segments > 0) & ~is_special[ids]
        for row, number in enumerate(numbers):
            draw = np.random.Generator(np.random.Philox(key=[self.seed, number]))
            chance, kind = draw.random((2, ids.shape[1]))
            chosen = maskable[row] & (chance < self.mask_probability)
            labels[row, chosen] = ids[row, chosen]
            random_ids = draw.integers(0, size, ids.shape[1])
            ids[row] = np.where(chosen & (kind < 0.8), mask, ids[row])
            ids[row] = np.where(chosen & (kind >= 0.9), random_ids, ids[row])
        return _batch(ids, segments, labels)

    @functools.cached_property
    def _tokens(self) -> tuple[npt.NDArray[np.bool_], int, int]:
        """Whether a token is special, by its id; [MASK]; vocabulary size."""
        tokenizer = self.tokenizer()
        is_special = np.zeros(len(tokenizer), dtype=bool)
        is_special[tokenizer.all_special_ids] = True
        return is_special, tokenizer.mask_token_id, len(tokenizer)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = packed_inputs(model, batch["input_ids"], batch["segments"])
        chosen = batch["labels"] != IGNORED
        labels = batch["labels"][chosen]
        head = PREDICTION_HEADS.get(model.config.model_type)
        if head is None:
            logits = model(**inputs).logits[chosen]
        else:
            logits = head(model)(model.base_model(**inputs).last_hidden_state[chosen])
        return _loss(logits, labels, counted=not model.training)


@dataclasses.dataclass(frozen=True)
class CausalLM(LanguageModel):
    def model(self) -> "PreTrainedModel":
        return self._model("causal_lm")

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        ids, segments = self._packed(rows)
        labels = np.full_like(ids, IGNORED)
        within = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        labels[:, :-1][within] = ids[:, 1:][within]
        return _batch(ids, segments, labels)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = packed_inputs(model, batch["input_ids"], batch["segments"])
        logits = model(**inputs, use_cache=False).logits
        chosen = batch["labels"] != IGNORED
        logits, labels = logits[chosen], batch["labels"][chosen]
        return _loss(logits, labels, counted=not model.training)


def _batch(
    ids: npt.NDArray[np.int64], segments: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> Batch:
    arrays = {"input_ids": ids, "segments": segments, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _loss(logits: Tensor, labels: Tensor, counted: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Summed cross-entropy; and the correct predictions, if they are `counted`: the argmax over a
    vocabulary is dear on a CPU, and training has no use for it."""
    loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
    return loss, {"correct": (logits.argmax(-1) == labels).sum()} if counted else {}
