"""Tasks around a task, for tests that meddle with training, or look on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainers.corpora.feeding.feed import Rows
from trainers.tasks.task import Batch, Counts, Guess, Task


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """The task itself, which also sees the samples' numbers where it takes their loss."""

    task: Task

    rows_are_coupled: ClassVar[bool] = False

    def tokenizer(self) -> Any:
        return self.task.tokenizer()

    def model(self) -> Any:
        return self.task.model()

    def rows(self, split: str) -> Rows:
        return self.task.rows(split)

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        return {**self.task.collate(rows, numbers), "numbers": torch.tensor(numbers)}

    def length(self, row: dict[str, Any]) -> int:
        return self.task.length(row)

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        return self.task.longest_rows(number)

    def targets(self, batch: Batch) -> float:
        return self.task.targets(batch)

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Counts]:
        own = {name: value for name, value in batch.items() if name != "numbers"}
        loss, further = self.task.loss(model, own)
        return (self.learned(loss, batch) if model.training else loss), further

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        return self.task.metrics(counts)

    def unlearned(self) -> dict[str, int]:
        return self.task.unlearned()

    def guess(self, validation: Rows) -> Guess:
        return self.task.guess(validation)

    def flops(self, model: Any) -> Callable[[Batch], float]:
        return self.task.flops(model)

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        """The loss that is learned from; `numbers` in the batch are its samples'."""
        return loss


@dataclasses.dataclass(frozen=True)
class Magnified(Wrapped):
    """The loss of some samples is multiplied: by something that is not a number, or by much."""

    factors: Mapping[int, float]
    """By the samples' numbers."""

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        for number in batch["numbers"].tolist():
            loss = loss * self.factors.get(number, 1.0)
        return loss


@dataclasses.dataclass(frozen=True)
class Dull(Wrapped):
    """Nothing is learned from some batches: their gradient is zero."""

    batches: Sequence[int]
    batch_size: int

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        return loss * float(int(batch["numbers"][0]) // self.batch_size not in self.batches)
