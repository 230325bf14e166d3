"""What all ranks come to know of each other."""

from typing import Any

import torch.distributed as dist


def first_reason(own: str | None) -> str | None:
    """On every rank the same: of the ranks that have a reason, the first one's; None if none has.
    All must call it."""
    reasons: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, own)
    return next((reason for reason in reasons if reason is not None), None)
