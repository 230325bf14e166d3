"""Cross-entropy of logits that are whole."""

from torch import Tensor
from torch.nn import functional

from trainers.tasks.task import IGNORED, Counts


def cross_entropy(logits: Tensor, labels: Tensor, counted: bool) -> tuple[Tensor, Counts]:
    """Cross-entropy of `logits` (..., vocabulary), summed over the `labels` (...) that are not
    IGNORED; and the correct predictions, if they are `counted`: the argmax over a vocabulary is
    dear on a CPU, and training has no use for it."""
    loss = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, {"correct": (logits.argmax(-1) == labels).sum()} if counted else {}
