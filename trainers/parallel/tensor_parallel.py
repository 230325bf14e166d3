"""Tensor parallelism: each rank of a group has some rows or columns of a layer's matrices (Shoeybi
et al. 2019), as DeepSpeed's AutoTP cuts them by the plan of the model's own Transformers class.
Embeddings, norms and the output head stay whole.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from cluster.errors import UserError
from trainers.parallel.topology import PARALLEL_MODEL_TYPES

AUTOTP_NOTE = "ds_autotp_universal_checkpoint_meta"
"""The attribute in which AutoTP notes how it cut a parameter (`DS_AUTOTP_UC_META`; to import that
takes seconds, and an endpoint needs none of it)."""


def prepare(objective: Any, tp_size: int) -> None:
    """Lets an engine cut the layers of an objective's model. Raises UserError for a model that
    cannot be cut."""
    config: Any = objective.model.config
    if config.model_type not in PARALLEL_MODEL_TYPES:
        raise UserError(
            f"pretrain.tensor_parallel: {config.model_type!r} cannot be cut; "
            f"those that can: {', '.join(PARALLEL_MODEL_TYPES)}"
        )
    for what, number in (
        ("attention heads", config.num_attention_heads),
        ("key and value heads", config.num_key_value_heads),
        ("intermediate features", config.intermediate_size),
    ):
        if number % tp_size:
            raise UserError(
                f"pretrain.tensor_parallel: {tp_size} workers cannot share the {number} {what} "
                "of the model evenly"
            )
    objective.config = config  # where AutoTP looks for the plan


class WeightSlice(NamedTuple):
    """The part of a parameter that this rank has: indices `begin` to `end` of dimension `dim`."""

    dim: int
    begin: int
    end: int
    shape: tuple[int, ...]
    """Of the whole parameter."""
    tp_rank: int
    tp_size: int


def slice_of(parameter: Tensor) -> WeightSlice | None:
    """Which part of a parameter an engine's is; None if it is whole."""
    note: dict[str, Any] | None = getattr(parameter, AUTOTP_NOTE, None)
    if note is None or note["replicated"]:
        return None
    from deepspeed.utils import groups

    rank, sizes = groups.get_tensor_model_parallel_rank(), note["partition_sizes"]
    begin, shape = sum(sizes[:rank]), tuple(note["logical_shape"])
    return WeightSlice(note["partition_dim"], begin, begin + sizes[rank], shape, rank, len(sizes))


def gather(parameter: Tensor, local: Tensor) -> Tensor:
    """All values of a parameter, of which `local` are this rank's. Every rank calls it."""
    weight_slice = slice_of(parameter)
    if weight_slice is None:
        return local
    from deepspeed.utils import groups

    parts = [torch.empty_like(local) for _ in range(weight_slice.tp_size)]
    dist.all_gather(parts, local.contiguous(), group=groups.get_tensor_model_parallel_group())
    return torch.cat(parts, dim=weight_slice.dim)
