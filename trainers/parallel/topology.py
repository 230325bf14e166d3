"""Where a worker stands among those that share more than data."""

from typing import NamedTuple

import torch.distributed as dist

from trainers.engine.training_config import Shared, Training

CAN_SHARE = ("llama", "mistral", "qwen2", "qwen3")
"""Types of Transformers models whose workers can: attention takes a mask and knows of positions by
its inputs alone, there is a plan of what is cut, and no dropout but that of attention. Tried with
llama and qwen3, whose layers the others have."""


class Place(NamedTuple):
    """Workers of a group are neighbours and have the same sequences."""

    group: int
    groups: int
    part: int
    """Which of the group's parts is this worker's."""
    parts: int
    shares: Shared = "tokens"
    """What the group parts among it: the tokens of a sequence, or the weights of a layer."""

    @classmethod
    def of(cls, rank: int, workers: int, parts: int, shares: Shared = "tokens") -> "Place":
        return cls(rank // parts, workers // parts, rank % parts, parts, shares)

    @classmethod
    def of_this_worker(cls, settings: Training) -> "Place":
        rank, workers = dist.get_rank(), dist.get_world_size()
        return cls.of(rank, workers, settings.workers_per_group, settings.shared)

    @property
    def has_own_loss(self) -> bool:
        """Whether its loss is to be added to that of others: with parted weights, all workers of a
        group come to the same one."""
        return self.part == 0 or self.shares == "tokens"
