"""Sequence parallelism: the ranks of a group divide the tokens of their sequences in every layer,
and the heads in attention, where each has all tokens of some heads (DeepSpeed-Ulysses, Jacobs et
al. 2023). So there is room for sequences whose activations one worker has no memory for.

The attention that DeepSpeed itself registers with Transformers drops the mask, so that packed
documents would see each other. Here its exchange of heads for tokens is given the mask.
"""

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cluster.errors import UserError
from trainers.parallel.topology import PARALLEL_MODEL_TYPES, Topology

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "raymill_sequence_parallel"


def local_tokens(model: "PreTrainedModel", tokens: Tensor) -> Tensor:
    """This rank's part of (batch, length); all of it without sequence parallelism."""
    topology: Topology | None = getattr(model, "topology", None)
    if topology is None:
        return tokens
    return tokens.tensor_split(topology.sp_size, dim=1)[topology.sp_rank]


def prepare(model: "PreTrainedModel", topology: Topology) -> Any:
    """Has a model's attention exchange heads for tokens within a group. Every rank calls it.

    Returns what a DeepSpeed engine takes as `mpu`: None without sequence parallelism. Raises
    UserError for a model whose sequences cannot be divided.
    """
    if topology.sp_size == 1:
        return None
    config: Any = model.config
    if config.model_type not in PARALLEL_MODEL_TYPES:
        raise UserError(
            f"pretrain.sequence_parallel: {config.model_type!r} cannot share sequences; "
            f"those that can: {', '.join(PARALLEL_MODEL_TYPES)}"
        )
    size, heads, kv_heads = topology.sp_size, config.num_attention_heads, config.num_key_value_heads
    if heads % size or (kv_heads % size and size % kv_heads):
        raise UserError(
            f"pretrain.sequence_parallel: {size} workers cannot share the {heads} heads "
            f"and {kv_heads} key and value heads of the model evenly"
        )
    from deepspeed.runtime.sequence_parallel import parallel_state_sp, ulysses_sp
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    parallel_state_sp.initialize_sequence_parallel(size)
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
    model.topology = topology  # type: ignore[assignment]
    return parallel_state_sp
