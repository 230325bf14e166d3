"""What all ranks learn from each other."""

from typing import Any

import torch.distributed as dist


def first_reason(reason: str | None) -> str | None:
    """The reason of the first rank that has one; None if none has. Every rank calls it."""
    reasons: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, reason)
    return next((one for one in reasons if one is not None), None)
