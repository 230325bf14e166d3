"""This rank's share of every global batch, made in a thread while the step before computes.

The position alone says which samples are in a batch, so a share made ahead is the one that would be
made later. The step waits for what the thread has not finished.
"""

import concurrent.futures
import time
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from trainers.corpora.feeding.feed import Rows, cut, deal
from trainers.engine import zero
from trainers.engine.training_config import Training
from trainers.parallel.topology import Topology
from trainers.tasks.task import Batch, Task, tokens

FETCHING_THREADS = 2


class Share(NamedTuple):
    """What one rank does in one step."""

    micro_batches: list[tuple[Batch, float]]
    """With weights 1 or 0: every rank takes equally many, and a surplus one has weight 0."""
    targets: float
    tokens: int
    flops: float


class Batches:
    """The shares of one rank, a step ahead. A context: leaving it ends the threads."""

    def __init__(
        self,
        task: Task,
        settings: Training,
        rows: Rows,
        seed: int,
        topology: Topology,
        flops: Callable[[Batch], float],
    ):
        """`flops` are those of a micro-batch."""
        self._task, self._settings, self._rows = task, settings, rows
        self._order = rows.order(seed)
        self._topology, self._flops = topology, flops
        self._maker = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._fetchers = concurrent.futures.ThreadPoolExecutor(FETCHING_THREADS, "shards")
        self._ahead: tuple[int, concurrent.futures.Future[Share]] | None = None
        self._window = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for threads in (self._fetchers, self._maker):
            threads.shutdown(cancel_futures=True)

    def at(self, start: int, is_last: bool = False) -> tuple[Share, float]:
        """The share of the batch that begins at sample `start`, and the seconds waited for it.

        Raises what making it raised.
        """
        began = time.monotonic()
        if self._ahead is None or self._ahead[0] != start:
            self._begin(start)
        assert self._ahead is not None
        share = self._ahead[1].result()
        self._ahead = None
        if not is_last:
            self._begin(start + self._settings.batch_size)
        return share, time.monotonic() - began

    def _begin(self, start: int) -> None:
        window = self._order.window(start)
        if window != self._window:
            self._window = window
            for shard in dict.fromkeys([*self._shards(window), *self._shards(window + 1)]):
                # A hint: where it fails, `take` meets the same error and raises it.
                self._fetchers.submit(self._rows.fetch, shard)
        self._ahead = start, self._maker.submit(self.make, start)

    def _shards(self, window: int) -> list[int]:
        """The shards of a window. Workers of a node begin at different ones, and fetch for all."""
        shards = self._order.shards(window)
        first = self._topology.dp_rank * FETCHING_THREADS % len(shards)
        return shards[first:] + shards[:first]

    def make(self, start: int) -> Share:
        """The share of the batch that begins at sample `start`: a pure function of it."""
        task, settings, rows, topology = self._task, self._settings, self._rows, self._topology
        dp_rank, dp_size = topology.dp_rank, topology.dp_size
        chosen = self._order.at(start, settings.batch_size)
        size, count = zero.accumulation(settings.batch_size, dp_size, settings.micro_batch_size)
        dealt = deal(rows.lengths(chosen), dp_rank, dp_size)
        own = rows.take(chosen[dealt])
        lengths = np.array([task.length(row) for row in own], dtype=np.int64)
        micro_batches = []
        for places in cut(lengths, count, size):
            some, numbers = [own[place] for place in places], dealt[places]
            if not some:
                some, numbers = rows.take(chosen[:1]), np.zeros(1, dtype=np.int64)
            batch = task.collate(some, [start + int(number) for number in numbers])
            if settings.gpus_per_worker:  # from where a GPU copies it by itself
                batch = {name: value.pin_memory() for name, value in batch.items()}
            micro_batches.append((batch, 1.0 if len(places) else 0.0))
        counted = [
            batch for batch, weight in micro_batches if weight and topology.is_first_of_group
        ]
        return Share(
            micro_batches,
            sum(map(task.targets, counted)),
            sum(map(tokens, counted)),
            sum(map(self._flops, counted)),
        )
