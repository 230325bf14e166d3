"""Tasks whose rows are token ids of which some are learned: the cross-entropy of each learned
token after those before it, summed,

L = - sum_t m_t log p(x_t | x_<t),   m_t = 1 where x_t is learned, else 0

The stage `render` made the ids and the marks m, from the rows that can be learned; nothing is cut
or dropped afterwards.
"""

import abc
import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from torch import Tensor

from cluster.errors import UserError
from trainers.corpora.feeding.feed import Rows, TokenRows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import read_arrow
from trainers.models import chunked_loss
from trainers.models.build import PACKABLE, architecture_of, remark
from trainers.models.lean_imports import transformers
from trainers.tasks.causal_loss import causal_loss
from trainers.tasks.conversations.overlong import fitted
from trainers.tasks.conversations.renderer import Rendered
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.cross_entropy import TokenTargets, uniform_guess
from trainers.tasks.fine_tuning import FineTuning
from trainers.tasks.flops import Cost
from trainers.tasks.packing import collated, model_inputs, one_by_one, packed, padded
from trainers.tasks.rendered import RenderedTask
from trainers.tasks.task import Batch, Counts, Guess, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

REWRITTEN = "answers that the template rewrites, which are not learned"
UNKNOWN = "rows with what the vocabulary lacks"


class Rendering(NamedTuple):
    """What becomes of a row of examples."""

    sequences: Sequence[Mapping[str, Sequence[Any]]]
    """Values of the Task's columns; several of a row that is split."""
    noted: Mapping[str, int] = {}
    """What of the row is not learned as it is, counted by kind, for people."""


@dataclasses.dataclass(frozen=True)
class RenderedFineTuning(FineTuning):
    """A task whose rows the stage `render` makes of those of the examples, before training."""

    settings: RenderedTask

    columns: ClassVar[Mapping[str, pa.DataType]]
    """What the stage keeps of a sequence, each a list; `input_ids` is one of them."""

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
        return {**made["dropped"], **made["noted"]}


class LearnedTokens(TokenTargets, RenderedFineTuning):
    """A task whose loss is the cross-entropy of the tokens that are learned."""

    @functools.cached_property
    def unknown_id(self) -> int | None:
        """The id of the token that stands for what the vocabulary lacks. None where that token ends
        texts, as GPT-2's does, whose vocabulary lacks nothing."""
        unknown: Any = self.loaded_tokenizer.unk_token_id
        return None if unknown in tokenizers.ends(self.loaded_tokenizer) else unknown

    def guess(self, validation: Rows) -> Guess:
        return uniform_guess(len(self.loaded_tokenizer))


class CausalTokens(LearnedTokens):
    """A task of a decoder-only model, where `learned` says of each token whether it is learned."""

    columns: ClassVar[Mapping[str, pa.DataType]] = {
        "input_ids": pa.list_(pa.int32()),
        "learned": pa.list_(pa.bool_()),
    }

    def model(self) -> "PreTrainedModel":
        model = self.build("AutoModelForCausalLM")
        refuse_bidirectional(model, self.settings.task)
        if self.settings.packing and not self.is_packed:
            remark(model, f"packing: {self._not_packed}, so each is padded by itself")
        chunked_loss.prepare(model)
        return model

    @property
    def is_packed(self) -> bool:
        """Whether rows share sequences."""
        return self.settings.packing and self._not_packed is None

    @functools.cached_property
    def _not_packed(self) -> str | None:
        """Why rows of one sequence would not be kept apart, or None."""
        adapter, kind = self.settings.adapter, architecture_of(self.start).model_type
        if adapter is not None and not adapter.packs:
            return f"rows of one sequence would share the virtual tokens of {adapter.name}"
        return None if kind in PACKABLE else f"{kind!r} would not keep rows of one sequence apart"

    def fit(self, made: Sequence[Rendered]) -> Rendering:
        """The sequences of a row, as `overlong` says of those over max_length. Raises NotRendered
        where none is left."""
        settings = self.settings
        each = [fitted(one, settings.max_length, settings.overlong) for one in made]
        kept = [one for some in each for one in some.sequences]
        noted = collections.Counter(some.counted for some in each if some.counted is not None)
        if not kept:
            raise NotRendered(next(iter(noted)))
        noted[REWRITTEN] = sum(one.rewritten for one in made)
        noted[UNKNOWN] = int(any(self.unknown_id in one.input_ids for one in kept))
        sequences: list[Mapping[str, Sequence[Any]]] = [
            {"input_ids": one.input_ids, "learned": one.learned} for one in kept
        ]
        return Rendering(sequences, +noted)

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        length = self.settings.max_length
        row = {"input_ids": np.zeros(length, np.int32), "learned": np.ones(length, np.bool_)}
        return [row] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        lengths = [self.length(row) for row in rows]
        if self.is_packed:
            return collated(rows, packed(lengths), self.pad_id)
        return padded(collated(rows, one_by_one(lengths), self.pad_id))

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = model_inputs(model, batch)
        return causal_loss(model, inputs, batch["labels"], counted=not model.training)

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
