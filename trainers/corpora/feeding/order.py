"""The order of samples: a pure function of (seed, epoch, position), the same for any number of
workers.

So the whole data state of a run is one integer, the samples consumed, and resume is exact at any
position. Memory is one number a shard, whatever the samples.

A permutation is a Feistel network over the smallest product a * b that holds all samples, a and b
being about equal (Black & Rogaway 2002, the generalized Feistel cipher); the few positions that
fall outside walk on until they are inside. As nearly all of the product is inside, every position
is found in the same time.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainers.corpora.hashing import mix

Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
ROUNDS = 4
BATCHES_SORTED = 50
"""Batches whose samples are sorted by length together, under `group_by_length`: enough that those
of a batch are nearly equal, and few enough that it still has other samples in each epoch."""


class Order:
    """The shuffled order of the samples of shards, epoch after epoch.

    In each epoch the shards are shuffled and parted into windows of `window` shards, by default one
    window of all; the samples of a window are shuffled together. So a reader needs the shards of
    one window at a time.
    """

    def __init__(self, sizes: Sequence[int], seed: int, window: int | None = None):
        """`sizes` are the samples of each shard."""
        self.size = sum(sizes)
        self._sizes = np.array(sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._seed = seed
        self._window = window or len(sizes)
        self._windows = -(-len(sizes) // self._window)  # in an epoch
        self._epoch = functools.lru_cache(maxsize=2)(self._lay_out)

    def at(self, start: int, count: int) -> Indices:
        """The samples number `start` to `start + count` since training began."""
        epochs, places = np.divmod(np.arange(start, start + count, dtype=np.int64), self.size)
        chosen = np.empty(count, dtype=np.int64)
        for number in np.unique(epochs):
            inside = epochs == number
            chosen[inside] = self._samples(int(number), places[inside])
        return chosen

    def window(self, position: int) -> int:
        """The window that sample number `position` lies in, counted since training began."""
        number, place = divmod(position, self.size)
        ends = self._epoch(number).window_ends
        return number * self._windows + int(np.searchsorted(ends, place, side="right"))

    def shards(self, window: int) -> list[int]:
        """The shards of a window."""
        number, place = divmod(window, self._windows)
        first = place * self._window
        return self._epoch(number).shards[first : first + self._window].tolist()

    def _lay_out(self, number: int) -> "_Epoch":
        shards = permuted(
            np.arange(len(self._sizes)), len(self._sizes), _key(self._seed, number, 0)
        )
        ends = np.cumsum(self._sizes[shards])
        last = np.arange(self._windows) * self._window + self._window - 1
        return _Epoch(shards, ends, ends[np.minimum(last, len(ends) - 1)])

    def _samples(self, number: int, places: Indices) -> Indices:
        epoch = self._epoch(number)
        shuffled = np.empty_like(places)
        windows = np.searchsorted(epoch.window_ends, places, side="right")
        for window in np.unique(windows):
            first = epoch.window_ends[window - 1] if window else 0
            size = int(epoch.window_ends[window] - first)
            key = _key(self._seed, number, int(window) + 1)
            inside = windows == window
            shuffled[inside] = first + permuted(places[inside] - first, size, key)
        slots = np.searchsorted(epoch.ends, shuffled, side="right")
        shards = epoch.shards[slots]
        return self._starts[shards] + shuffled - (epoch.ends[slots] - self._sizes[shards])


class OrderByLength(Order):
    """The same order, of whose samples those of `BATCHES_SORTED` batches at a time are dealt anew:
    each batch has ones of similar length, and long and short batches follow by chance."""

    def __init__(self, lengths: Indices, seed: int, batch_size: int):
        """Of samples in one shard, of these lengths."""
        super().__init__([len(lengths)], seed)
        self._lengths, self._batch_size = lengths, batch_size
        self._group = functools.lru_cache(maxsize=2)(self._deal)

    def at(self, start: int, count: int) -> Indices:
        chosen, position, end = [], start, start + count
        while position < end:
            first, samples = self._group(*self._group_of(position))
            found = samples[position - first :][: end - position]
            chosen.append(found)
            position += len(found)
        return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)

    def _group_of(self, position: int) -> tuple[int, int]:
        """Where the group of this position begins and ends: at a multiple of the batch size,
        counted since training began, so that batches lie in one; and with its epoch."""
        size = BATCHES_SORTED * self._batch_size
        group, epoch = position // size, position // self.size
        first = max(group * size, epoch * self.size)
        return first, min((group + 1) * size, (epoch + 1) * self.size)

    def _deal(self, first: int, end: int) -> tuple[int, Indices]:
        samples = super().at(first, end - first)
        samples = samples[np.argsort(-self._lengths[samples], kind="stable")]
        batches = np.arange(first, end) // self._batch_size
        batches -= batches[0]
        number = int(batches[-1]) + 1
        turn = permuted(np.arange(number), number, _key(self._seed, 0, first))
        # The places of the batch whose turn comes first take the longest samples, and so on.
        dealt = np.empty_like(samples)
        dealt[np.argsort(turn[batches], kind="stable")] = samples
        return first, dealt


@dataclasses.dataclass(frozen=True)
class _Epoch:
    shards: Indices
    """In this epoch's order."""
    ends: Indices
    """Where each of them ends, if their samples stood in a row."""
    window_ends: Indices


def permuted(places: Indices, size: int, key: Words) -> Indices:
    """Where a permutation of `size` places, chosen by `key`, takes some of them."""
    rows = math.isqrt(size - 1) + 1 if size else 1
    columns = max(1, -(-size // rows))
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], rows, columns, key)
        outside = values >= size
    return values.astype(np.int64)


def _feistel(values: Words, rows: int, columns: int, key: Words) -> Words:
    sides = np.uint64(rows), np.uint64(columns)
    right, left = np.divmod(values, sides[0])
    for number in range(ROUNDS):
        side = sides[number % 2]
        drawn = mix(right ^ mix(key + np.uint64(number)))
        left, right = right, (left + drawn % side) % side
    return right * sides[0] + left


def _key(seed: int, epoch: int, window: int) -> Words:
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, epoch, window):
        key = mix(key ^ np.uint64(part))
    return key
