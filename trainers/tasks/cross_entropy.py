"""Cross-entropy of tokens: of logits that are whole, and what tasks whose loss it is count."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from trainers.tasks.task import IGNORED, Batch, Counts, Guess


class TokenTargets:
    """The part of a Task whose targets are tokens: the `labels` of a batch that are not IGNORED."""

    def targets(self, batch: Batch) -> float:
        return int((batch["labels"] != IGNORED).sum())

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        loss = float(counts["loss"] / counts["targets"])
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "accuracy": float(counts["correct"] / counts["targets"]),
        }


def uniform_guess(vocabulary_size: int) -> Guess:
    """The loss where every token is as likely as any other."""
    name = f"the logarithm of {vocabulary_size:,} tokens"
    return Guess("loss", math.log(vocabulary_size), "min", name)


def cross_entropy(logits: Tensor, labels: Tensor, counted: bool) -> tuple[Tensor, Counts]:
    """Cross-entropy of `logits` (..., vocabulary), summed over the `labels` (...) that are not
    IGNORED; and the correct predictions, if they are `counted`: the argmax over a vocabulary is
    dear on a CPU, and training has no use for it."""
    loss = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, {"correct": (logits.argmax(-1) == labels).sum()} if counted else {}
