"""What all objectives of pretraining share: packed sequences, and the model that reads them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from trainers.corpora.feeding.feed import PackedRows, Rows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import segment_ids
from trainers.models.build import PACKABLE, Start, build, refuse_longer
from trainers.tasks.cross_entropy import TokenTargets, uniform_guess
from trainers.tasks.task import Batch, Guess

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class LanguageModel(TokenTargets):
    corpus: Artifact
    start: Start
    seed: int
    cache_gb: float
    shuffle_window: int | None = None

    rows_are_coupled: ClassVar[bool] = False

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        return tokenizers.load(self.corpus.folder("tokenizer"))

    def rows(self, split: str) -> PackedRows:
        window = self.shuffle_window if split == "train" else None
        return PackedRows(self.corpus, split, self.cache_gb, window)

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        return self.rows("train").take(np.arange(number))

    def length(self, row: Mapping[str, Any]) -> int:
        return len(row["input_ids"])

    def guess(self, validation: Rows) -> Guess:
        return uniform_guess(len(self.tokenizer()))

    def unlearned(self) -> dict[str, int]:
        return {}

    def _model(self, head: str) -> "PreTrainedModel":
        model = build(self.start, head, self.tokenizer())
        kind = model.config.model_type
        if kind not in PACKABLE:
            raise UserError(
                f"pretrain.{self.start.key}: {kind!r} cannot be trained on packed sequences yet; "
                f"those that can: {', '.join(PACKABLE)}"
            )
        if self.start.shape is None:  # which is checked with the recipe
            refuse_longer(model, "corpora.sequence_length", self.rows("train").sequence_length)
        return model

    def _draw(self, number: int) -> np.random.Generator:
        """What is drawn for a sample, by its place since training began."""
        return np.random.Generator(np.random.Philox(key=[self.seed, number]))


def ids_and_segments(rows: Sequence[dict[str, Any]]) -> tuple[Ids, Ids]:
    """Of packed sequences the token ids, and which piece each is of; (batch, length)."""
    ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)
    return ids, segment_ids([row["piece_lengths"] for row in rows], ids.shape[1])


def tensors(**arrays: npt.NDArray[Any]) -> Batch:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
