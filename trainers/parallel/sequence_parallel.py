"""Sequences that several workers share: each has some of the tokens in every layer, and for
attention all tokens of some of the heads (DeepSpeed-Ulysses, Jacobs et al. 2023). So the
activations of sequences fit that one worker has no memory for.

What DeepSpeed registers with Transformers as such an attention drops the mask, and documents packed
into one sequence would see each other. Here its exchange of heads for tokens is given the mask.
"""

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cluster.errors import UserError
from trainers.parallel.topology import CAN_SHARE, Place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "raymill_sequence_parallel"


def own(model: "PreTrainedModel", tokens: Tensor) -> Tensor:
    """This worker's part of (batch, length); all, where sequences are not shared."""
    place: Place | None = getattr(model, "place", None)
    return tokens if place is None else tokens.tensor_split(place.parts, dim=1)[place.part]


def shared(model: "PreTrainedModel", place: Place) -> Any:
    """Has a model's attention exchange heads for tokens among the workers of a group. Every rank
    calls it; returns what a DeepSpeed engine takes as `mpu`, which is None where nothing is shared.
    Raises UserError for a model that cannot.
    """
    if place.parts == 1 or place.shares == "weights":
        return None
    config: Any = model.config
    if config.model_type not in CAN_SHARE:
        raise UserError(
            f"pretrain.sequence_parallel: {config.model_type!r} cannot share sequences; "
            f"those that can: {', '.join(CAN_SHARE)}"
        )
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % place.parts or (kv_heads % place.parts and place.parts % kv_heads):
        raise UserError(
            f"pretrain.sequence_parallel: {place.parts} workers cannot share the {heads} heads "
            f"and {kv_heads} key and value heads of the model evenly"
        )
    from trainers.engine import zero

    zero.joined_deepspeed()
    from deepspeed.runtime.sequence_parallel import parallel_state_sp, ulysses_sp
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    parallel_state_sp.initialize_sequence_parallel(place.parts)

    inner = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]

    @functools.cache
    def exchange(batch_size: int) -> torch.nn.Module:
        return ulysses_sp.UlyssesSPAttentionHF(
            inner,
            batch_size=batch_size,
            attn_head_count=heads,
            attn_head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            kv_head_count=kv_heads,
            num_hidden_layers=config.num_hidden_layers,
            process_group=parallel_state_sp.get_sequence_parallel_group(),
            seq_length_is_variable=True,
        )

    def attention(module: Any, query: Tensor, *inputs: Any, **named: Any) -> Any:
        return exchange(len(query))(module, query, *inputs, **named)

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)
    model.set_attn_implementation(ATTENTION)
    model.place = place  # type: ignore[assignment]
    return parallel_state_sp
