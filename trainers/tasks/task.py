"""What a model learns: one file a task, with its data, model, loss and metrics.

The loop knows nothing of tasks but this protocol, so pretraining and fine-tuning are one loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainers.corpora.feeding.feed import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

IGNORED = -100
"""The label of a position that has nothing to learn."""

Batch = dict[str, Tensor]


class Task(Protocol):
    """Picklable: it names its data, and reads them where it runs."""

    def tokenizer(self) -> "PreTrainedTokenizerFast": ...

    def model(self) -> "PreTrainedModel": ...

    def rows(self, split: str) -> Rows: ...

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """A micro-batch with `labels`. `numbers` are the samples' places since training began:
        whatever is drawn for a sample follows from its number, at any number of workers. Called in
        a thread beside the step, so nothing is drawn from torch's own generator."""
        ...

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss summed over targets, and further sums for `metrics`, which training ignores."""
        ...

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """From sums over the validation data, `loss` and `targets` among them."""
        ...

    def guess(self, validation: Rows) -> "Guess":
        """What a model that has learned nothing comes to on the validation data."""
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

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self._task.loss(self.model, batch)


def lengths(batch: Batch) -> Tensor:
    """Tokens of each row of the input, without padding."""
    found = batch.get("attention_mask", batch.get("segments"))
    return torch.ones_like(batch["input_ids"]).sum(-1) if found is None else (found != 0).sum(-1)


def tokens(batch: Batch) -> int:
    """Those of the input, without padding."""
    return int(lengths(batch).sum())


def targets(batch: Batch) -> int:
    """What the loss is divided by: the positions with something to learn."""
    return int((batch["labels"] != IGNORED).sum())
