"""Preference in training: two answers to a prompt go through the model together.

A row is two sequences, the prompt with either answer, which stay in one micro-batch and one
forward. The loss of a pair knows of no other pair: it is summed over pairs and divided by the pairs
of the global batch, so it is the same for any workers, micro-batches and packing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainers.corpora.feeding.feed import Rows, TokenRows
from trainers.corpora.tokens.pack import read_arrow
from trainers.tasks.conversations.overlong import CUT
from trainers.tasks.conversations.templated_tokens import TemplatedTokens
from trainers.tasks.flops import Cost
from trainers.tasks.learned_tokens import REWRITTEN, Rendering
from trainers.tasks.prefer.log_probabilities import (
    disable_dropout,
    reference_log_probabilities,
    sequence_log_probabilities,
)
from trainers.tasks.prefer.losses import (
    Pairs,
    averages,
    kl_per_token,
    log_ratios,
    pair_losses,
    scores,
)
from trainers.tasks.prefer.pairs import pair_batch, render_pair
from trainers.tasks.prefer.spec import Prefer
from trainers.tasks.spec import REFERENCE
from trainers.tasks.task import Batch, Counts, Guess, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PreferTask(TemplatedTokens):
    settings: Prefer

    columns: ClassVar[Mapping[str, pa.DataType]] = {
        **TemplatedTokens.columns,  # of the chosen sequence, and behind it the rejected one
        "lengths": pa.list_(pa.int32()),
    }

    def render(self, row: Mapping[str, Any]) -> Rendering:
        pair = render_pair(self.renderer, row, self.settings.max_length, self.settings.overlong)
        noted = {CUT: int(pair.is_cut), REWRITTEN: pair.chosen.rewritten + pair.rejected.rewritten}
        return Rendering([pair.columns()], {what: count for what, count in noted.items() if count})

    def model(self) -> "PreTrainedModel":
        model = super().model()
        disable_dropout(model)
        return model

    def rows(self, split: str) -> TokenRows:
        assert self.examples is not None
        table = read_arrow(self.examples.path / f"{split}.arrow")
        if self.settings.is_scored:
            assert self.reference is not None
            scored = read_arrow(self.reference.path / f"{split}.arrow")
            table = table.append_column(REFERENCE, scored[REFERENCE])
        return TokenRows(table, self.grouped)

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        one, other = super().longest_rows(2)
        both = {name: np.concatenate([one[name], other[name]]) for name in one}
        sizes = np.full(2, self.settings.max_length, np.int32)
        return [{**both, "lengths": sizes, REFERENCE: np.zeros(2, np.float32)}] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """The chosen sequences of all pairs, and then the rejected ones."""
        batch = pair_batch(rows, self.is_packed, self.pad_id)
        if self.settings.is_scored:
            of_rows = np.stack([row[REFERENCE] for row in rows], 1)
            batch[REFERENCE] = torch.from_numpy(of_rows.flatten())
        return batch

    def targets(self, batch: Batch) -> float:
        return len(batch["tokens"]) // 2

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        settings = self.settings
        policy, tokens = _pairs(sequence_log_probabilities(model, batch)), _pairs(batch["tokens"])
        reference = self._reference_of(model, batch)
        score = scores(settings.loss, policy, reference, tokens)
        losses = pair_losses(
            settings.loss,
            score,
            settings.temperature,
            settings.target_margin,
            settings.label_smoothing,
        )
        if model.training:
            return losses.sum(), {}
        per_token = averages(policy, tokens)
        counts = {
            "reward_accuracy": score.difference > 0,
            "margin": settings.temperature * score.difference,
            "chosen_log_probability": per_token.chosen,
            "rejected_log_probability": per_token.rejected,
        }
        if reference is not None:
            counts["kl"] = kl_per_token(log_ratios(policy, reference), tokens)
        return losses.sum(), {name: of_pairs.sum() for name, of_pairs in counts.items()}

    def _reference_of(self, model: "PreTrainedModel", batch: Batch) -> Pairs | None:
        if not self.settings.has_reference:
            return None
        if self.settings.is_scored:
            return _pairs(batch[REFERENCE])
        return _pairs(reference_log_probabilities(model, batch))

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        return {
            name: float(counts[name] / counts["targets"])
            for name in self.settings.validation_metrics
        }

    def guess(self, validation: Rows) -> Guess:
        return Guess("reward_accuracy", 0.5, "max", "what tossing a coin has")

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        """The FLOPs of a step. Where the reference is the model without its adapter, it goes
        forward once more: one product beside the two that a step beside frozen weights has."""
        cost, settings = Cost.of(model), self.settings
        is_twice = settings.has_reference and not settings.is_scored
        passes = 3 / 2 if is_twice else 1  # of two products, as the base's weights are frozen
        return lambda batch: passes * cost.flops(lengths(batch), int(batch["tokens"].sum()))


def _pairs(of_sequences: Tensor) -> Pairs:
    return Pairs(*of_sequences.chunk(2))
