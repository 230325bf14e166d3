"""Where a worker stands among those that share more than data."""

from typing import NamedTuple

import torch.distributed as dist

from trainers.config import Shared, Training


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
        return cls.of(rank, workers, settings.workers_a_group, settings.shared)

    @property
    def has_own_loss(self) -> bool:
        """Whether its loss is to be added to that of others: with parted weights, all workers of a
        group come to the same one."""
        return self.part == 0 or self.shares == "tokens"

    @property
    def draw(self) -> int:
        """Workers of one number draw the same dropout, as those must that have the same values."""
        return self.group if self.shares == "weights" else self.group * self.parts + self.part
