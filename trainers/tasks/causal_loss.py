"""The loss of each next token, for every task that learns some."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from trainers.models.chunked_loss import loss_head
from trainers.parallel.sequence_parallel import local_tokens
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.task import Counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def causal_loss(
    model: "PreTrainedModel", inputs: Mapping[str, Any], labels: Tensor, counted: bool
) -> tuple[Tensor, Counts]:
    """Cross-entropy summed over `labels` (batch, length), each what is predicted at its place, that
    are not IGNORED; and the correct predictions, if they are `counted`.

    `inputs` are the model's own. In chunks (chunked_loss.py) where the model was prepared for it
    and can, and else of whole logits.
    """
    labels = local_tokens(model, labels)
    base = _without_adapters(model)
    head = None if base is None else loss_head(base)
    if base is None or head is None:
        logits = model(**inputs, use_cache=False).logits
        # A prompt that is learned stands before the input.
        return cross_entropy(logits[:, -labels.shape[1] :], labels, counted)
    hidden = base.base_model(**inputs, use_cache=False).last_hidden_state
    loss, correct = head(hidden, labels, counted=counted)
    return loss, {} if correct is None else {"correct": correct}


def _without_adapters(model: Any) -> "PreTrainedModel | None":
    """The Transformers model whose layers adapters of PEFT are in; None where they change its
    inputs, too."""
    config = getattr(model, "active_peft_config", None)
    if config is None:
        return model  # type: ignore[no-any-return]
    return None if config.is_prompt_learning else model.get_base_model()
