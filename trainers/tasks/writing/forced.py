"""How probable a model holds the true answers: its loss on their learned tokens, of each row."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers.tasks.encoding import FORWARD_TOKENS, TokenLimit, pad
from trainers.tasks.task import IGNORED

LOGITS = 1 << 28
"""Numbers at once at most: those of a large vocabulary take a GB in fp32."""


class Forced(NamedTuple):
    """Sums over the learned tokens of a row, each predicted from the true ones before it."""

    loss: float
    """Cross-entropy, in nats."""
    right: int
    """Of which the model holds no other token for more probable."""
    targets: int
    """How many there are."""


@torch.inference_mode()
def forced(model: Any, rows: Sequence[Mapping[str, Sequence[int]]], pad_id: int) -> list[Forced]:
    """The sums of each row of `input_ids` and `labels`, which are IGNORED where nothing is learned.
    Labels are as long as the input of a decoder-only model, and the whole target of an
    encoder-decoder."""
    lengths = [max(len(row["input_ids"]), len(row["labels"])) for row in rows]
    most = min(FORWARD_TOKENS[model.device.type], max(1, LOGITS // model.config.vocab_size))

    def sums(places: list[int]) -> list[Forced]:
        inputs = pad([rows[place]["input_ids"] for place in places], pad_id)
        labels = pad([rows[place]["labels"] for place in places], IGNORED)["input_ids"]
        return _sums(model, {**inputs, "labels": labels})

    return TokenLimit(most).in_order(sums, lengths)


def _sums(model: Any, batch: Mapping[str, Tensor]) -> list[Forced]:
    inputs = {name: value.to(model.device) for name, value in batch.items()}
    labels = inputs.pop("labels")
    if model.config.is_encoder_decoder:
        logits = model(**inputs, labels=labels).logits
    else:
        logits, labels = model(**inputs).logits[:, :-1], labels[:, 1:]
    losses = nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), labels, ignore_index=IGNORED, reduction="none"
    ).sum(1)
    is_learned = labels != IGNORED
    right = ((logits.argmax(-1) == labels) & is_learned).sum(1)
    columns = (losses.tolist(), right.tolist(), is_learned.sum(1).tolist())
    return [Forced(*of_row) for of_row in zip(*columns, strict=True)]
