"""Rows in memory, of any length, for tests that need no files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainers.corpora.feeding.order import Indices, Order


class InMemory:
    """Samples of these token ids, all with label 0."""

    def __init__(self, input_ids: Sequence[Sequence[int]]):
        self._input_ids = input_ids
        self._lengths = np.array([len(ids) for ids in input_ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._input_ids)

    def order(self, seed: int) -> Order:
        return Order([len(self)], seed)

    def fetch(self, shard: int) -> None:
        """They are here."""

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        return [{"input_ids": self._input_ids[index], "label": 0} for index in indices]

    def lengths(self, indices: Indices) -> Indices:
        return self._lengths[indices]
