"""The loss of each next token, for every task that learns some."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.models.chunked_loss import loss_head
from trainers.parallel.sequence_parallel import local_tokens
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.task import Counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WHOLE_LOGITS = 1 << 25
"""Up to so many logits are computed at once where they are compiled: torch.compile makes one loop
of their softmax and what leads to it, which is a tenth faster than chunks of 8,192 words."""


def causal_loss(
    model: "PreTrainedModel", inputs: Mapping[str, Any], labels: Tensor, counted: bool
) -> tuple[Tensor, Counts]:
    """The cross-entropy summed over the `labels` (batch, length) that are not IGNORED, each of
    which is what to predict at its place; and the correct predictions, if they are `counted`.

    `inputs` are the arguments of the model's forward. The loss is computed in chunks where the
    model was prepared for it (chunked_loss.py), and else of whole logits; so are few logits that
    are compiled.
    """
    labels = local_tokens(model, labels)
    head = loss_head(model)
    if head is None or _are_few(labels, head.out_features):
        return cross_entropy(model(**inputs, use_cache=False).logits, labels, counted)
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    loss, correct = head(hidden, labels, counted=counted)
    return loss, {} if correct is None else {"correct": correct}


def _are_few(labels: Tensor, vocabulary_size: int) -> bool:
    return torch.compiler.is_compiling() and labels.numel() * vocabulary_size <= WHOLE_LOGITS
