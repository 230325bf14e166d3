"""FLOPs of a batch, forward and backward.

A token costs 6 N FLOPs: each of the N parameters that multiply is multiplied and added once forward
and twice backward (Kaplan et al. 2020, section 2.1). Attention adds 12 L d T for L layers of width
d over sequences of T tokens (Chowdhery et al. 2022, appendix B). What is computed twice on purpose
(activation checkpointing) does not count, nor does padding.

Not every token goes through the whole model: the head of masked LM sees the masked ones alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

CROSS_ATTENTION = ("EncDecAttention", "encoder_attn")
"""What Transformers calls a decoder's attention to what was read."""
KEYS_AND_VALUES = ("k", "v", "k_proj", "v_proj")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the FLOPs of a model follow from, forward and backward. Taken before an engine cuts the
    model."""

    body: int
    """Parameters that every token is multiplied with."""
    head: int
    """Parameters that only what is predicted from is multiplied with: the output layer, and what
    leads to it."""
    widths: int
    """Layers x width, where each layer attends."""

    @classmethod
    def of(cls, model: Any) -> "Cost":
        """Of a Transformers model with one stack of layers."""
        base, config = model.base_model, model.config
        pooler = getattr(base, "pooler", None)  # of BERT: it sees a text's first token alone
        body = multiplying(base) - (multiplying(pooler) if pooler is not None else 0)
        head = multiplying(model) - body
        return cls(body, head, config.num_hidden_layers * config.hidden_size)

    def flops(self, lengths: Tensor, predictions: float) -> float:
        """Of a batch: tokens of each sequence, and places that are predicted from."""
        tokens, pairs = int(lengths.sum()), int((lengths**2).sum())
        return 6.0 * (self.body * tokens + self.head * predictions) + 12.0 * self.widths * pairs


@dataclasses.dataclass(frozen=True)
class EncoderDecoderCost:
    """The same, of a model whose encoder reads and whose decoder writes."""

    of_read: int
    """Parameters that what is read is multiplied with: those of the encoder, and of the keys and
    values that the decoder makes of it."""
    of_written: int
    width: int
    layers: tuple[int, int]
    """Of the encoder and the decoder."""

    @classmethod
    def of(cls, model: Any) -> "EncoderDecoderCost":
        config = model.config
        of_read = multiplying(model.get_encoder()) + sum(
            multiplying(part)
            for name, attention in model.named_modules()
            if name.endswith(CROSS_ATTENTION)
            for part_name, part in attention.named_children()
            if part_name in KEYS_AND_VALUES
        )
        width = config.num_attention_heads * getattr(config, "d_kv", 0) or config.hidden_size
        decoder_layers = getattr(config, "num_decoder_layers", None) or config.decoder_layers
        layers = config.num_hidden_layers, decoder_layers
        return cls(of_read, multiplying(model) - of_read, width, layers)

    def flops(self, read: Tensor, written: Tensor) -> float:
        """Of a batch: tokens of each sequence that is read, and of each that is written."""
        pairs = self.layers[0] * read**2 + self.layers[1] * (written**2 + written * read)
        products = self.of_read * int(read.sum()) + self.of_written * int(written.sum())
        return 6.0 * products + 12.0 * self.width * int(pairs.sum())


def beside_frozen(flops: Callable[[Any], float]) -> Callable[[Any], float]:
    """Of a training that leaves the model's weights as they are: they have no gradients, which are
    a third of the products. What an adapter adds is little, and not counted."""
    return lambda batch: flops(batch) * 2 / 3


def multiplying(module: Any) -> int:
    """Parameters that take part in a matrix product: all but embeddings that are only looked up."""
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    shared = getattr(head, "weight", None)  # a table that is the output layer too is multiplied
    looked_up = {
        id(part.weight): part.weight.numel()
        for part in module.modules()
        if isinstance(part, nn.Embedding) and part.weight is not shared
    }
    return sum(parameter.numel() for parameter in module.parameters()) - sum(looked_up.values())
