"""Tasks whose rows are token ids of which some are learned: the cross-entropy of each learned
token after those before it, summed,

L = - sum_t m_t log p(x_t | x_<t),   m_t = 1 where x_t is learned, else 0

The stage `render` made the ids and the marks m, from the rows that can be learned; nothing is cut
or dropped afterwards.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from torch import Tensor

from cluster.errors import UserError
from trainers.corpora.feeding.feed import Rows, TokenRows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import read_arrow
from trainers.models.lean_imports import transformers
from trainers.tasks.fine_tuning import FineTuning
from trainers.tasks.flops import Cost
from trainers.tasks.pretraining.language_model import cross_entropy, tensors
from trainers.tasks.rendered import RenderedTask
from trainers.tasks.task import IGNORED, Batch, Counts, Guess, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


class Rendering(NamedTuple):
    """What becomes of a row of examples."""

    sequences: Sequence[Mapping[str, Sequence[Any]]]
    """Values of the Task's columns; several of a row that is split."""
    is_cut: bool = False
    """Whether some of its tokens are in none of them."""


@dataclasses.dataclass(frozen=True)
class RenderedFineTuning(FineTuning):
    """Whose rows are made of those of the examples before training, by the stage `render`."""

    settings: RenderedTask

    columns: ClassVar[Mapping[str, pa.DataType]]
    """Of a sequence: lists, of which `input_ids` is one."""

    @abc.abstractmethod
    def render(self, row: Mapping[str, Any]) -> Rendering:
        """The token ids of a row of examples, and what of them is learned; cut as `overlong` says.
        Raises NotRendered with a reason where nothing can be learned of it."""

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        return tokenizers.load(self.tokenizer_folder, "finetune.base")

    def rows(self, split: str) -> TokenRows:
        assert self.examples is not None
        return TokenRows(read_arrow(self.examples.path / f"{split}.arrow"), self.grouped)

    def unlearned(self) -> dict[str, int]:
        if self.examples is None:
            return {}
        made = self.examples.manifest.metrics["train"]
        cut = {"rows cut to max_length": made["cut"]} if made["cut"] else {}
        return {**made["dropped"], **cut}


class LearnedTokens(RenderedFineTuning):
    """Whose loss is that of learned tokens: `labels` of a batch are these, elsewhere IGNORED."""

    def targets(self, batch: Batch) -> float:
        return int((batch["labels"] != IGNORED).sum())

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        loss = float(counts["loss"] / counts["targets"])
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "accuracy": float(counts["correct"] / counts["targets"]),
        }

    def guess(self, validation: Rows) -> Guess:
        """Every token is as likely as any other."""
        size = len(self.loaded_tokenizer)
        return Guess("loss", math.log(size), "min", f"the logarithm of {size:,} tokens")


class CausalTokens(LearnedTokens):
    """Of a decoder-only model: `learned` says of each token whether it is."""

    columns: ClassVar[Mapping[str, pa.DataType]] = {
        "input_ids": pa.list_(pa.int32()),
        "learned": pa.list_(pa.bool_()),
    }

    def model(self) -> "PreTrainedModel":
        model = self.build("AutoModelForCausalLM")
        refuse_bidirectional(model, self.settings.task)
        return model

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        length = self.settings.max_length
        row = {"input_ids": np.zeros(length, np.int32), "learned": np.ones(length, np.bool_)}
        return [row] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """All (rows, longest). `labels` are at each place the token that follows, if learned."""
        longest = max(len(row["input_ids"]) for row in rows)
        ids = np.full((len(rows), longest), self.pad_id, np.int64)
        mask, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
        for place, row in enumerate(rows):
            of_row, learned = row["input_ids"], row["learned"][1:]
            ids[place, : len(of_row)], mask[place, : len(of_row)] = of_row, 1
            labels[place, : len(learned)][learned] = of_row[1:][learned]
        return tensors(input_ids=ids, attention_mask=mask, labels=labels)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs, use_cache=False).logits
        return cross_entropy(logits, batch["labels"], counted=not model.training)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), self.targets(batch))


def refuse_bidirectional(model: "PreTrainedModel", task: str) -> None:
    """Raises UserError for a model that sees the tokens after a place, such as a BERT, which
    Transformers loads with a head to write nonetheless."""
    kind = model.config.model_type
    masked = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if kind in masked and not getattr(model.config, "is_decoder", False):
        raise UserError(
            f"finetune.base: {kind!r} reads both sides of a token, and cannot write; {task} needs "
            "a causal model, such as a llama or qwen3"
        )
