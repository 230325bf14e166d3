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
    base = _without_adapters(model)
    head = None if base is None else loss_head(base)
    if base is None or head is None or _are_few(labels, head.out_features):
        logits = model(**inputs, use_cache=False).logits
        # A prompt that is learned stands before the input.
        return cross_entropy(logits[:, -labels.shape[1] :], labels, counted)
    hidden = base.base_model(**inputs, use_cache=False).last_hidden_state
    loss, correct = head(hidden, labels, counted=counted)
    return loss, {} if correct is None else {"correct": correct}


def _are_few(labels: Tensor, vocabulary_size: int) -> bool:
    return torch.compiler.is_compiling() and labels.numel() * vocabulary_size <= WHOLE_LOGITS


def _without_adapters(model: Any) -> "PreTrainedModel | None":
    """The Transformers model whose layers adapters of PEFT are in; None where they change its
    inputs, too."""
    config = getattr(model, "active_peft_config", None)
    if config is None:
        return model  # type: ignore[no-any-return]
    return None if config.is_prompt_learning else model.get_base_model()
