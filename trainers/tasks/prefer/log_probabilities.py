"""Log-probabilities of whole answers under a causal model, by one forward for all of a batch."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainers.models.chunked_loss import chunk_tokens, loss_head
from trainers.tasks.packing import model_inputs
from trainers.tasks.task import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def sequence_log_probabilities(model: "PreTrainedModel", batch: Batch) -> Tensor:
    """(sequences,): log pi(y | x) = sum_t log pi(y_t | x, y_<t) of each, in nats, over what is
    learned of it.

    A batch has `input_ids` and `labels` as packing.py makes them, (rows, length), with the
    `segments` of packed rows, or else an `attention_mask`; `sequences` (rows, length), which
    sequence a place belongs to; and `tokens` (sequences,), how many of each are learned. Logits are
    made of learned places alone, a chunk at a time where the model can, and anew for the gradient:
    so they are never whole in memory.
    """
    inputs, labels = model_inputs(model, batch), batch["labels"]
    is_learned = labels != IGNORED
    head = loss_head(model)
    layer: nn.Module = nn.Identity() if head is None else head
    if head is None:
        every = model(**inputs, use_cache=False).logits
        size = every[..., 0].numel()
    else:
        every = model.base_model(**inputs, use_cache=False).last_hidden_state
        size = chunk_tokens(every.device, head.out_features)
    states = every[:, -labels.shape[1] :][is_learned]  # a prompt that is learned stands before it
    chunks = zip(states.split(size), labels[is_learned].split(size), strict=True)
    of_tokens = [
        checkpoint(
            token_log_probabilities,
            layer,
            some,
            targets,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing is drawn there
        )
        for some, targets in chunks
    ]
    sums = states.new_zeros(len(batch["tokens"]), dtype=torch.float32)
    return sums.index_add(0, batch["sequences"][is_learned], torch.cat(of_tokens))


def token_log_probabilities(layer: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """(tokens,): of `targets` (tokens,), by the logits that an output layer makes of `states`."""
    return -functional.cross_entropy(layer(states).float(), targets, reduction="none")


def reference_log_probabilities(model: "PreTrainedModel", batch: Batch) -> Tensor:
    """`sequence_log_probabilities` of a model with an adapter, as it was before training."""
    from trainers.methods.adapt import as_the_base  # imports PEFT

    with as_the_base(model):
        return sequence_log_probabilities(model, batch)


def disable_dropout(model: nn.Module) -> None:
    """Sets all dropout of a model to 0, so that one that has learned nothing yet is its reference,
    exactly: what dropout adds to the log-probability of a whole answer is large beside what
    distinguishes two models."""
    for module in model.modules():
        for name, value in [*vars(module).items()]:
            is_chance = isinstance(value, float) and "drop" in name
            if is_chance or (name == "p" and isinstance(module, nn.Dropout)):
                setattr(module, name, 0.0)
