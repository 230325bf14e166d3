"""The rows behind the order of samples, and which of them a rank takes.

A corpus is read by memory maps of its shards. Shards of a remote one come to this node's disk one
by one, as they are needed or shortly before.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from trainers.corpora.feeding import index
from trainers.corpora.feeding.order import Indices, Order, OrderByLength
from trainers.corpora.tokens.pack import read_arrow


class Rows(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def order(self, seed: int) -> Order: ...

    def fetch(self, shard: int) -> None:
        """Brings a shard near. Called from threads, before `take` wants its samples."""
        ...

    def take(self, indices: Indices) -> list[dict[str, Any]]: ...

    def lengths(self, indices: Indices) -> Indices:
        """Tokens of each sample, to put similar ones together."""
        ...


class PackedRows:
    """The packed sequences of a corpus split, each a row: `input_ids`, a view of the map, and
    `piece_lengths`."""

    def __init__(self, corpus: Artifact, split: str, cache_gb: float, window: int | None = None):
        """`window` shards are shuffled together, by default all. Raises UserError if the cache
        cannot hold what is read at a time."""
        found = index.read(corpus)
        self.sequence_length = found.sequence_length
        self._shards = found.split(split)
        self._names = list(self._shards)
        sizes = np.array(list(self._shards.values()))
        self._ends, self._starts = np.cumsum(sizes), np.cumsum(sizes) - sizes
        self._window = min(window or len(self._names), len(self._names))
        self._corpus, self._files = corpus, corpus.cached(cache_gb * 1e9)
        # More maps than a window would keep evicted files on the disk.
        self._map = functools.lru_cache(maxsize=self._window)(self._map_shard)
        if not corpus.storage.is_local:
            self._refuse_what_the_cache_cannot_hold(split)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, seed: int) -> Order:
        return Order(list(self._shards.values()), seed, self._window)

    def fetch(self, shard: int) -> None:
        self._files.fetch(self._names[shard])

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        shards = np.searchsorted(self._ends, indices, side="right")
        rows: list[dict[str, Any]] = [{}] * len(indices)
        # Shard by shard, each mapped once even where a batch spans more than the maps kept.
        for place in np.argsort(shards, kind="stable"):
            shard = int(shards[place])
            rows[place] = self._map(shard).row(int(indices[place] - self._starts[shard]))
        return rows

    def lengths(self, indices: Indices) -> Indices:
        return np.full(len(indices), self.sequence_length, dtype=np.int64)

    def _map_shard(self, shard: int) -> "_Shard":
        return self._files.read(self._names[shard], _Shard)

    def _refuse_what_the_cache_cannot_hold(self, split: str) -> None:
        """While one window is read the next is fetched."""
        files = self._corpus.manifest.files
        sizes = sorted((files[name]["bytes"] for name in self._names), reverse=True)
        needed, limit = sum(sizes[: 2 * self._window]), self._files.limit_bytes
        if needed <= limit:
            return
        fitting = int(np.searchsorted(np.cumsum(sizes), limit, side="right")) // 2
        narrower = (
            f"set pretrain.shuffle_window: {fitting} or less (it counts shards), or "
            if split == "train" and fitting
            else ""
        )
        raise UserError(
            f"cluster.cache_gb: {limit / 1e9:g} is less than the {needed / 1e9:.3g} GB of shards "
            f"that are read at a time; {narrower}set more"
        )


class _Shard:
    """One file as arrays over its memory map; as it was written in one piece, nothing is copied."""

    def __init__(self, path: Path):
        (batch,) = read_arrow(path).combine_chunks().to_batches()
        ids, pieces = batch["input_ids"], batch["piece_lengths"]
        self._ids = ids.flatten().to_numpy().reshape(len(ids), ids.type.list_size)
        self._piece_starts = pieces.offsets.to_numpy()
        self._piece_lengths = pieces.values.to_numpy()

    def row(self, number: int) -> dict[str, Any]:
        start, stop = self._piece_starts[number : number + 2]
        return {"input_ids": self._ids[number], "piece_lengths": self._piece_lengths[start:stop]}


class _OneTable:
    """Rows that are on this node, of known lengths."""

    def __init__(self, lengths: Indices, grouped: int | None):
        """`grouped` is the batch size, where the samples of a batch are to be of similar length."""
        self._lengths, self._grouped = lengths, grouped

    def __len__(self) -> int:
        return len(self._lengths)

    def order(self, seed: int) -> Order:
        if self._grouped is None:
            return Order([len(self)], seed)
        return OrderByLength(self._lengths, seed, self._grouped)

    def fetch(self, shard: int) -> None:
        """They are here."""

    def lengths(self, indices: Indices) -> Indices:
        return self._lengths[indices]


class Examples(_OneTable):
    """Rows of a split of examples, memory-mapped and encoded when they are taken: a worker holds no
    more of them than a batch."""

    def __init__(
        self,
        table: pa.Table,
        encode: Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]],
        grouped: int | None = None,
    ):
        """`grouped` is the batch size, where the samples of a batch are to be of similar length."""
        self._table, self._encode = table, encode
        # Of texts, which is near enough to put similar ones together.
        super().__init__(pc.utf8_length(table["text"]).to_numpy().astype(np.int64), grouped)

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        return self._encode(self._table.take(indices).to_pylist())


class TokenRows(_OneTable):
    """Rows of token ids, memory-mapped: a sample is arrays by the names of the columns, which are
    lists."""

    def __init__(self, table: pa.Table, grouped: int | None = None):
        """`grouped` is the batch size, where the samples of a batch are to be of similar length."""
        lengths = pc.list_value_length(table["input_ids"]).to_numpy().astype(np.int64)
        super().__init__(lengths, grouped)
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def take(self, indices: Indices) -> list[dict[str, Any]]:
        return [self._row(int(index)) for index in indices]

    def _row(self, index: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        batch = self._batches[number]
        place = index - (int(self._ends[number]) - batch.num_rows)
        return {
            name: column[place].values.to_numpy(zero_copy_only=False)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }


MOST_COMPARED = 256
"""Samples whose cuts into micro-batches are chosen together, which takes the square of their
number."""


def deal(lengths: Indices, rank: int, world_size: int) -> npt.NDArray[np.intp]:
    """Which places of a global batch this rank takes. The batch is sorted by length and dealt out
    like cards, so that ranks get equal work. A pure function of the batch, whoever computes it."""
    return np.argsort(-lengths, kind="stable")[rank::world_size]


def cut(lengths: Indices, count: int, micro_batch_size: int) -> list[npt.NDArray[np.intp]]:
    """The places of samples as `count` micro-batches of similar length, of which some are empty
    where there are fewer samples. No micro-batch has more tokens, with padding, than
    `micro_batch_size` of the longest; but one of short samples may have more samples. Pure."""
    order = np.argsort(-lengths, kind="stable")
    most_tokens = micro_batch_size * int(lengths.max(initial=0))
    together = max(1, MOST_COMPARED // micro_batch_size)
    micro_batches: list[npt.NDArray[np.intp]] = []
    for start in range(0, count, together):
        some = order[start * micro_batch_size :][: together * micro_batch_size]
        number = min(together, count - start)
        micro_batches += np.split(some, _cuts(lengths[some], number, most_tokens))
    return micro_batches


def _cuts(lengths: Indices, count: int, most_tokens: int) -> list[int]:
    """Where samples, the longest first, are cut into `count` micro-batches with the fewest tokens,
    counted with padding: by dynamic programming over the end of each micro-batch."""
    places = np.arange(len(lengths) + 1)
    sizes = places - places[:, None]  # (where a micro-batch begins, where it ends)
    tokens = np.where(sizes < 0, np.inf, np.append(lengths, 0)[:, None] * sizes)
    tokens[tokens > most_tokens] = np.inf
    if count <= len(lengths):  # an empty one would compute for nothing
        tokens[sizes == 0] = np.inf
    fewest, begins = tokens[0], []
    for _ in range(count - 1):
        further = fewest[:, None] + tokens
        begins.append(further.argmin(0))
        fewest = further.min(0)
    cuts = [len(lengths)]
    for begin in reversed(begins):
        cuts.append(int(begin[cuts[-1]]))
    return cuts[:0:-1]
