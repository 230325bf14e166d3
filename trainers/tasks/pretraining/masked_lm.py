"""Masked language modelling: the cross-entropy of the original tokens at the chosen places M,

    L = - sum_(i in M) log p(x_i | masked x)                                   (Devlin et al. 2019)

Of the tokens chosen, 80 % become [MASK], 10 % a random token, 10 % stay. What is chosen follows
from the seed and the sample's number, so it differs in every epoch (dynamic masking, Liu et al.
2019) and is the same at any number of workers.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cluster.errors import UserError
from trainers.models.build import packed_inputs
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.flops import Cost
from trainers.tasks.pretraining.language_model import Ids, LanguageModel, ids_and_segments, tensors
from trainers.tasks.pretraining.words import Words
from trainers.tasks.task import IGNORED, Batch, Counts, lengths, tokens

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
class Masking(LanguageModel):
    """Chooses what is masked. Special tokens and padding never are."""

    mask_probability: float = 0.15
    whole_words: bool = False

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        tokenizer = super().tokenizer()
        if tokenizer.mask_token_id is None:
            raise UserError(
                "corpora.tokenizer.base: its tokenizer has no mask token, which this "
                "pretrain.objective needs; take another, or objective: causal_lm"
            )
        return tokenizer

    def _maskable(self, ids: Ids, segments: Ids) -> npt.NDArray[np.bool_]:
        is_special, _, _ = self._tokens
        return (segments > 0) & ~is_special[ids]

    def _chosen(self, ids: Ids, chance: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Each token of a row with `mask_probability`; the tokens of a word all or none."""
        if self.whole_words:
            chance = chance[self._words.numbers(ids)]
        return chance < self.mask_probability

    @functools.cached_property
    def _tokens(self) -> tuple[npt.NDArray[np.bool_], int, int]:
        """Whether a token is special, by its id; [MASK]; vocabulary size."""
        tokenizer = self.tokenizer()
        is_special = np.zeros(len(tokenizer), dtype=bool)
        is_special[tokenizer.all_special_ids] = True
        mask: Any = tokenizer.mask_token_id
        return is_special, mask, len(tokenizer)

    @functools.cached_property
    def _words(self) -> Words:
        return Words(self.tokenizer())


@dataclasses.dataclass(frozen=True)
class MaskedLM(Masking):
    def model(self) -> "PreTrainedModel":
        return self._model("AutoModelForMaskedLM")

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        ids, segments = ids_and_segments(rows)
        _, mask, size = self._tokens
        labels = np.full_like(ids, IGNORED)
        maskable = self._maskable(ids, segments)
        for row, number in enumerate(numbers):
            draw = self._draw(number)
            chance, kind = draw.random((2, ids.shape[1]))
            chosen = maskable[row] & self._chosen(ids[row], chance)
            labels[row, chosen] = ids[row, chosen]
            random_ids = draw.integers(0, size, ids.shape[1])
            ids[row] = np.where(chosen & (kind < 0.8), mask, ids[row])
            ids[row] = np.where(chosen & (kind >= 0.9), random_ids, ids[row])
        return tensors(input_ids=ids, segments=segments, labels=labels)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = packed_inputs(model, batch["input_ids"], batch["segments"])
        labels, head = batch["labels"], PREDICTION_HEADS.get(model.config.model_type)
        if head is None:
            logits = model(**inputs).logits
        else:
            chosen = labels != IGNORED
            labels = labels[chosen]
            logits = head(model)(model.base_model(**inputs).last_hidden_state[chosen])
        return cross_entropy(logits, labels, counted=not model.training)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = Cost.of(model)
        predicted = self.targets if model.config.model_type in PREDICTION_HEADS else tokens
        return lambda batch: cost.flops(lengths(batch), predicted(batch))
