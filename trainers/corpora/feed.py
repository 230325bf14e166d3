"""The order of samples, and the rows behind it.

The order is a pure function of (seed, epoch, position), the same for any number of workers,
computed in O(1) memory: a Feistel network permutes the smallest power of four that holds all
samples, and positions that fall outside walk on until they are inside ("cycle walking", Black &
Rogaway 2002). So the whole data state of a run is one integer, the samples consumed; resume is
exact at any position.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainers.corpora.mixing import mix
from trainers.corpora.pack import read_arrow

Indices = npt.NDArray[np.int64]
ROUNDS = 4


class Rows(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> list[dict[str, Any]]: ...

    def lengths(self, indices: Indices) -> Indices:
        """Tokens of each sample, to put similar ones together."""
        ...


@dataclasses.dataclass(frozen=True)
class Order:
    """The shuffled order of `size` samples, epoch after epoch."""

    size: int
    seed: int

    def at(self, start: int, count: int) -> Indices:
        """The samples number `start` to `start + count` since training began."""
        positions = np.arange(start, start + count, dtype=np.int64)
        epochs = positions // self.size
        chosen = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            chosen[inside] = self._permute(positions[inside] % self.size, int(epoch))
        return chosen

    def _permute(self, positions: Indices, epoch: int) -> Indices:
        half_bits = max(1, (max(self.size - 1, 1).bit_length() + 1) // 2)
        values = positions.astype(np.uint64)
        outside = np.ones(len(values), dtype=bool)
        while outside.any():
            values[outside] = _feistel(values[outside], half_bits, self.seed, epoch)
            outside = values >= self.size
        return values.astype(np.int64)


def _feistel(
    values: npt.NDArray[np.uint64], half_bits: int, seed: int, epoch: int
) -> npt.NDArray[np.uint64]:
    mask = np.uint64((1 << half_bits) - 1)
    left, right = values >> np.uint64(half_bits), values & mask
    for number in range(ROUNDS):
        key = np.uint64(((seed << 32) ^ (epoch << 8) ^ number) & (2**64 - 1))
        left, right = right, left ^ (mix(right ^ mix(np.atleast_1d(key))) & mask)
    return (left << np.uint64(half_bits)) | right


class Packed:
    """Packed sequences of a corpus split: `input_ids` and `piece_lengths`."""

    def __init__(self, folder: Path):
        tables = [read_arrow(path) for path in sorted(folder.glob("*.arrow"))]
        table = pa.concat_tables(tables).combine_chunks() if len(tables) > 1 else tables[0]
        self._table = table
        self.sequence_length: int = table.schema.field("input_ids").type.list_size

    def __len__(self) -> int:
        return self._table.num_rows

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        return self._table.take(pa.array(indices)).to_pylist()

    def lengths(self, indices: Indices) -> Indices:
        return np.full(len(indices), self.sequence_length, dtype=np.int64)


class Tokenized:
    """Labelled examples in memory: `input_ids` of their own length, and `label`."""

    def __init__(self, input_ids: Sequence[Sequence[int]], labels: Sequence[int]):
        self._input_ids = input_ids
        self._labels = labels
        self._lengths = np.array([len(ids) for ids in input_ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        return [
            {"input_ids": self._input_ids[index], "label": self._labels[index]} for index in indices
        ]

    def lengths(self, indices: Indices) -> Indices:
        return self._lengths[indices]


def deal(
    lengths: Indices, rank: int, world_size: int, micro_batch_size: int
) -> list[npt.NDArray[np.intp]]:
    """Which places of a global batch this rank takes, as micro-batches of similar length.

    The batch is sorted by length and dealt out like cards, so that ranks get equal work; every rank
    gets the same number of micro-batches. A pure function of the batch, whoever computes it.
    """
    order = np.argsort(-lengths, kind="stable")
    count = -(-len(order) // (world_size * micro_batch_size))
    mine = order[rank::world_size]
    return [
        mine[start * micro_batch_size : (start + 1) * micro_batch_size] for start in range(count)
    ]
