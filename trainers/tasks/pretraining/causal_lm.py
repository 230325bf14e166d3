"""Causal language modelling: the cross-entropy of each next token of the same document,

L = - sum_t log p(x_t | x_<t)                                        (Radford et al. 2018, eq. 1)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from trainers.models import chunked_loss
from trainers.models.build import packed_inputs
from trainers.tasks.causal_loss import causal_loss
from trainers.tasks.flops import Cost
from trainers.tasks.pretraining.language_model import LanguageModel, ids_and_segments, tensors
from trainers.tasks.task import IGNORED, Batch, Counts, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True)
class CausalLM(LanguageModel):
    def model(self) -> "PreTrainedModel":
        model = self._model("AutoModelForCausalLM")
        chunked_loss.prepare(model)
        return model

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        ids, segments = ids_and_segments(rows)
        labels = np.full_like(ids, IGNORED)
        within = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        labels[:, :-1][within] = ids[:, 1:][within]
        return tensors(input_ids=ids, segments=segments, labels=labels)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = packed_inputs(model, batch["input_ids"], batch["segments"])
        return causal_loss(model, inputs, batch["labels"], counted=not model.training)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), self.targets(batch))
