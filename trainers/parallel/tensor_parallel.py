"""Layers that several workers share: each has some of a matrix's rows or columns (Shoeybi et al.
2019), as DeepSpeed's AutoTP cuts them by the plan of the model's own Transformers class.
Embeddings, norms and the output head stay whole.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from cluster.errors import UserError
from trainers.parallel.topology import CAN_SHARE

HOW = "ds_autotp_universal_checkpoint_meta"
"""Where AutoTP notes of a parameter how it cut it (`DS_AUTOTP_UC_META`; to import that takes
seconds, and an endpoint needs none of it)."""


def prepare(objective: Any, parts: int) -> None:
    """Lets an engine cut the layers of an objective's model among so many workers. Raises UserError
    for a model that cannot be cut."""
    config: Any = objective.model.config
    if config.model_type not in CAN_SHARE:
        raise UserError(
            f"pretrain.tensor_parallel: {config.model_type!r} cannot be cut; "
            f"those that can: {', '.join(CAN_SHARE)}"
        )
    for what, number in (
        ("attention heads", config.num_attention_heads),
        ("key and value heads", config.num_key_value_heads),
        ("intermediate features", config.intermediate_size),
    ):
        if number % parts:
            raise UserError(
                f"pretrain.tensor_parallel: {parts} workers cannot share the {number} {what} "
                "of the model evenly"
            )
    objective.config = config  # where AutoTP looks for the plan


class Cut(NamedTuple):
    """What of a parameter is this worker's: all that has an index from `begin` to `end`."""

    dim: int
    begin: int
    end: int
    shape: tuple[int, ...]
    """Of the whole parameter."""
    part: int
    parts: int


def cut(parameter: Tensor) -> Cut | None:
    """How a parameter of an engine was cut; None if it is whole."""
    made: dict[str, Any] | None = getattr(parameter, HOW, None)
    if made is None or made["replicated"]:
        return None
    from deepspeed.utils import groups

    part, sizes = groups.get_tensor_model_parallel_rank(), made["partition_sizes"]
    begin = sum(sizes[:part])
    shape = tuple(made["logical_shape"])
    return Cut(made["partition_dim"], begin, begin + sizes[part], shape, part, len(sizes))


def whole(parameter: Tensor, own: Tensor) -> Tensor:
    """All of a parameter's values, of which `own` are this worker's. Called by every rank."""
    found = cut(parameter)
    if found is None:
        return own
    from deepspeed.utils import groups

    parts = [torch.empty_like(own) for _ in range(found.parts)]
    dist.all_gather(parts, own.contiguous(), group=groups.get_tensor_model_parallel_group())
    return torch.cat(parts, dim=found.dim)
