"""Causal language modelling: the cross-entropy of each next token of the same document,

L = - sum_t log p(x_t | x_<t)                                        (Radford et al. 2018, eq. 1)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from trainers.models.build import packed_inputs
from trainers.parallel.sequence_parallel import local_tokens
from trainers.tasks.flops import Cost
from trainers.tasks.pretraining.language_model import LanguageModel, cross_entropy, packed, tensors
from trainers.tasks.task import IGNORED, Batch, Counts, lengths, tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True)
class CausalLM(LanguageModel):
    def model(self) -> "PreTrainedModel":
        return self._model("AutoModelForCausalLM")

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        ids, segments = packed(rows)
        labels = np.full_like(ids, IGNORED)
        within = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        labels[:, :-1][within] = ids[:, 1:][within]
        return tensors(input_ids=ids, segments=segments, labels=labels)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = packed_inputs(model, batch["input_ids"], batch["segments"])
        logits = model(**inputs, use_cache=False).logits
        # All but the last token of a document count: to pick those out costs more than it spares.
        return cross_entropy(
            logits, local_tokens(model, batch["labels"]), counted=not model.training
        )

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), tokens(batch))
