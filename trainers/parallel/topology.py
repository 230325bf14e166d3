"""Which ranks have the same sequences, and what they divide among themselves."""

from typing import NamedTuple

PARALLEL_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Types of Transformers models whose tokens or weights can be divided: attention takes a mask and
knows of positions by its inputs alone, there is a plan of what is cut, and no dropout but that of
attention. Tried with llama and qwen3, whose layers the others have."""


class Topology(NamedTuple):
    """The coordinates of a rank. Ranks with the same sequences form a group, of neighbours."""

    dp_rank: int
    """The number of its group (data parallelism)."""
    dp_size: int
    sp_rank: int = 0
    """Which part of each sequence's tokens it has (sequence parallelism)."""
    sp_size: int = 1
    tp_rank: int = 0
    """Which part of each layer's weights it has (tensor parallelism)."""
    tp_size: int = 1

    @classmethod
    def of(cls, rank: int, workers: int, sp_size: int = 1, tp_size: int = 1) -> "Topology":
        """One of the two sizes is 1."""
        dp_rank, rank_in_group = divmod(rank, sp_size * tp_size)
        tp_rank, sp_rank = divmod(rank_in_group, sp_size)
        return cls(dp_rank, workers // (sp_size * tp_size), sp_rank, sp_size, tp_rank, tp_size)

    @property
    def is_first_of_group(self) -> bool:
        """Whether it counts the targets of the group's sequences."""
        return self.sp_rank == self.tp_rank == 0

    @property
    def counts_loss(self) -> bool:
        """With tensor parallelism all ranks of a group compute the same loss, and one counts."""
        return self.tp_rank == 0
