"""What training knows of a task: its data, its model, its loss and its metrics.

The loop knows nothing else of tasks, so pretraining and fine-tuning are one loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainers.corpora.feeding.feed import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

IGNORED = -100
"""The label of a position that has nothing to learn."""

Batch = dict[str, Tensor]
Counts = dict[str, Tensor]
"""Sums over samples, of any shape: they are added up over batches and ranks."""


class Task(Protocol):
    """Picklable: it names its data, and reads them where it runs."""

    rows_are_coupled: ClassVar[bool]
    """Whether a sample's loss depends on the others of its batch, as with in-batch negatives. Such
    a batch cannot be cut into micro-batches, or dealt to workers, without changing the loss."""

    def tokenizer(self) -> "PreTrainedTokenizerFast": ...

    def model(self) -> "PreTrainedModel": ...

    def rows(self, split: str) -> Rows: ...

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        """Rows as long as there can be, to plan memory with before there are data."""
        ...

    def length(self, row: dict[str, Any]) -> int:
        """Tokens of a row as it is taken, to put similar ones into a micro-batch."""
        ...

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """A micro-batch. `numbers` are the samples' places since training began: whatever is drawn
        for a sample follows from its number, at any number of workers. Called in a thread beside
        the step, so nothing is drawn from torch's own generator. It pads, and nothing else: what is
        encoded, labelled and cut was so before."""
        ...

    def targets(self, batch: Batch) -> float:
        """What the loss is divided by, summed over the global batch: tokens, texts, weights."""
        ...

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        """The loss summed over targets, and counts for `metrics`, which training ignores."""
        ...

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """Of the validation data, from their counts; `loss` and `targets` are among them."""
        ...

    def guess(self, validation: Rows) -> "Guess":
        """What a model that has learned nothing comes to on the validation data."""
        ...

    def unlearned(self) -> dict[str, int]:
        """What of the training data is not learned as it is, counted by reason, beside what there
        is: told before training, by one rank. Of a large split a part is enough."""
        ...

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        """What computes the FLOPs of a batch, forward and backward. Called before an engine cuts
        the model."""
        ...


class Guess(NamedTuple):
    """A metric of validation data as it is without any learning."""

    metric: str
    value: float
    mode: Literal["min", "max"]
    """Whether a better model has less of it or more."""
    name: str
    """What it is, in words."""

    def is_better_than(self, metrics: Mapping[str, float]) -> bool:
        """Also where a metric is no number."""
        reached = metrics[self.metric]
        return not (reached <= self.value if self.mode == "min" else reached >= self.value)


class Objective(nn.Module):
    """A model with its loss as one module: what an engine wraps, and torch.compile sees."""

    def __init__(self, model: "PreTrainedModel", task: Task):
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: Batch, learns: bool = True) -> tuple[Tensor, Counts]:
        """The task's loss of a batch; of inputs from which nothing is learned the logits."""
        if not learns:
            return self.model(**batch).logits, {}
        return self._task.loss(self.model, batch)


def lengths(batch: Batch) -> Tensor:
    """Tokens of each row of the input, without padding."""
    mask = batch.get("attention_mask", batch.get("segments"))
    return torch.ones_like(batch["input_ids"]).sum(-1) if mask is None else (mask != 0).sum(-1)


def tokens(batch: Batch) -> int:
    """Those of the input, without padding."""
    return int(lengths(batch).sum())
