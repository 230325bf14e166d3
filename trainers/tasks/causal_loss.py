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
"""So few are computed at once by torch.compile, which makes one loop of their softmax and what
leads to it: a tenth faster than chunks of 8,192 words, and they fit."""


def causal_loss(
    model: "PreTrainedModel", inputs: Mapping[str, Any], labels: Tensor, counted: bool
) -> tuple[Tensor, Counts]:
    """Cross-entropy summed over `labels` (batch, length), each what is predicted at its place, that
    are not IGNORED; and the correct predictions, if they are `counted`.

    `inputs` are the model's own. In chunks (chunked_loss.py) where the model was prepared for it
    and can, and else of whole logits; so are few that are compiled.
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
