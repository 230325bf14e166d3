"""The shares of ranks: every sample once an epoch, at any number of workers, made a step ahead."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.store.storage import Storage
from tests.packed import corpus_of
from tests.rows import InMemory
from tests.s3 import S3Server
from trainers.corpora.feeding.feed import PackedRows
from trainers.corpora.feeding.order import Indices, Order
from trainers.corpora.tokens.pack import pack_documents
from trainers.engine.batches import Batches, Share
from trainers.engine.training_config import Training
from trainers.parallel.topology import Topology
from trainers.tasks.task import tokens


class Numbers:
    """A task whose batch is the numbers of its samples."""

    def length(self, row: dict[str, Any]) -> int:
        return len(row["input_ids"])

    def collate(self, rows: list[dict[str, Any]], numbers: list[int]) -> dict[str, torch.Tensor]:
        samples = torch.tensor([row["input_ids"][0] for row in rows])
        return {"input_ids": samples, "labels": samples, "numbers": torch.tensor(numbers)}

    def targets(self, batch: dict[str, torch.Tensor]) -> float:
        return len(batch["labels"])


def test_padding_is_not_counted_as_tokens() -> None:
    ids = torch.zeros(2, 3, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert tokens({"input_ids": ids}) == 6
    assert tokens({"input_ids": ids, "attention_mask": mask}) == 3
    assert tokens({"input_ids": ids, "segments": mask * 2}) == 3


class Sharded(InMemory):
    """Rows in shards, that remembers which were fetched."""

    def __init__(self, sizes: list[int], window: int | None = None):
        samples = range(sum(sizes))
        super().__init__([[sample] * (1 + sample % 5) for sample in samples])
        self._sizes, self._window = sizes, window
        self.fetched: list[int] = []

    def order(self, seed: int) -> Order:
        return Order(self._sizes, seed, self._window)

    def fetch(self, shard: int) -> None:
        self.fetched.append(shard)


def batches(
    rows: Any,
    batch_size: int,
    micro_batch_size: int = 16,
    rank: int = 0,
    workers: int = 1,
    parts: int = 1,
) -> Batches:
    settings = Training(batch_size=batch_size, micro_batch_size=micro_batch_size)
    return Batches(Numbers(), settings, rows, 17, Topology.of(rank, workers, parts), tokens)  # type: ignore[arg-type]


def taken(share: Share) -> list[tuple[int, int]]:
    """Number and sample of all that counts in a share."""
    return [
        pair
        for batch, weight in share.micro_batches
        if weight
        for pair in zip(batch["numbers"].tolist(), batch["labels"].tolist(), strict=True)
    ]


LEGS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 4)), min_size=1, max_size=6
)
"""Parts of a run between stops: workers, micro-batch, steps."""


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any),
    window=st.none() | st.integers(1, 4),
    batch_size=st.integers(1, 13),
    legs=LEGS,
)
def test_every_sample_once_an_epoch_however_often_a_run_stops_and_changes_its_workers(
    sizes: list[int], window: int | None, batch_size: int, legs: list[tuple[int, int, int]]
) -> None:
    start = 0
    seen: list[tuple[int, int]] = []
    for workers, micro_batch_size, steps in legs:
        workers = min(workers, batch_size)  # a recipe with more is refused
        ranks = [
            batches(Sharded(sizes, window), batch_size, micro_batch_size, rank, workers)
            for rank in range(workers)
        ]
        for _ in range(steps):
            shares = [rank.make(start) for rank in ranks]
            assert len({len(share.micro_batches) for share in shares}) == 1, "equally many"
            for share in shares:
                counted = [batch for batch, weight in share.micro_batches if weight]
                assert all(len(batch["labels"]) <= 5 * micro_batch_size for batch in counted)
                assert share.targets == share.tokens == share.flops == len(taken(share)), (
                    "no surplus"
                )
                seen += taken(share)
            start += batch_size
    # Within a batch samples are dealt by length; over all, the unbroken order of one worker.
    order = Order(sizes, 17, window).at(0, start).tolist()
    assert sorted(seen) == list(enumerate(order))
    for first in range(0, start - sum(sizes) + 1, sum(sizes)):
        assert sorted(order[first : first + sum(sizes)]) == list(range(sum(sizes)))


def test_ranks_of_a_group_take_the_same_sequences_and_count_them_once() -> None:
    shares = [batches(Sharded([20]), 6, 2, rank, workers=4, parts=2).make(0) for rank in range(4)]
    assert taken(shares[0]) == taken(shares[1])
    assert taken(shares[2]) == taken(shares[3])
    both = sorted(number for share in shares[::2] for number, _ in taken(share))
    assert both == list(range(6))
    assert [share.targets for share in shares[1::2]] == [0, 0]
    assert sum(share.targets for share in shares) == 6


def test_batches_for_a_gpu_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda batch: pinned.append(batch) or batch)
    rows = InMemory([[sample] for sample in range(4)])
    for gpus in (0, 1):
        settings = Training(batch_size=4, micro_batch_size=2, gpus_per_worker=gpus)
        with Batches(Numbers(), settings, rows, 0, Topology.of(0, 1), lambda batch: 0.0) as made:  # type: ignore[arg-type]
            made.make(0)
        assert len(pinned) == gpus * 2 * 3, "of two micro-batches three tensors each"


def test_the_next_share_is_made_while_the_step_computes() -> None:
    rows = Sharded([20])
    threads: list[int] = []
    plain = rows.take

    def take(indices: Indices) -> list[dict[str, Any]]:
        threads.append(threading.get_ident())
        return plain(indices)

    rows.take = take  # type: ignore[method-assign]
    with batches(rows, 4) as feed:
        first, _ = feed.at(0)
        assert taken(first) == taken(feed.make(0))
        feed._ahead[1].result(timeout=600)  # type: ignore[index]
        assert len(threads) == 3, "one step ahead, no more"
        second, waited = feed.at(4, is_last=True)
        assert sorted(number for number, _ in taken(second)) == [4, 5, 6, 7]
        assert waited < 0.5
        assert feed._ahead is None, "nothing is made behind the last step"
    assert threads.count(threading.get_ident()) == 1, "the one that was made here"


def test_a_share_of_another_position_is_made_on_demand() -> None:
    with batches(Sharded([20]), 4) as feed:
        feed.at(0)
        assert taken(feed.at(12)[0]) == taken(feed.make(12))


def test_an_error_is_raised_at_the_step_that_needs_the_batch() -> None:
    class Breaking(Numbers):
        def collate(self, rows: Any, numbers: list[int]) -> dict[str, torch.Tensor]:
            if 4 in numbers:
                raise ValueError("a damaged row")
            return super().collate(rows, numbers)

    rows = Sharded([20])
    with Batches(Breaking(), Training(batch_size=4), rows, 17, Topology(0, 1), tokens) as feed:  # type: ignore[arg-type]
        feed.at(0)
        with pytest.raises(ValueError, match="a damaged row"):
            feed.at(4)


def test_the_threads_end_with_the_training() -> None:
    before = set(threading.enumerate())
    with contextlib.suppress(KeyboardInterrupt), batches(Sharded([20, 20]), 4) as feed:
        feed.at(0)
        raise KeyboardInterrupt
    assert set(threading.enumerate()) <= before


def test_shards_are_fetched_a_window_ahead() -> None:
    rows = Sharded([4] * 6, window=2)
    order = rows.order(17)
    windows = [order.shards(number) for number in range(5)]
    with batches(rows, 4) as feed:
        feed.at(0)  # makes the next batch too, which is of the same window
        feed._fetchers.shutdown()
    assert rows.fetched == windows[0] + windows[1]


def test_ranks_begin_to_fetch_at_different_shards() -> None:
    firsts = [batches(Sharded([4] * 6), 8, rank=rank, workers=4)._shards(0) for rank in range(4)]
    assert len({shards[0] for shards in firsts}) == 3, "two at a time, of six"
    assert all(sorted(shards) == list(range(6)) for shards in firsts)


class PackedNumbers(Numbers):
    """Of rows whose second token is their number."""

    def collate(self, rows: list[dict[str, Any]], numbers: list[int]) -> dict[str, torch.Tensor]:
        return super().collate([{"input_ids": row["input_ids"][1:]} for row in rows], numbers)


def test_a_corpus_in_s3_larger_than_the_cache_is_read_whole_and_each_shard_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    numbers = np.arange(80, dtype=np.uint16).reshape(8, 10, 1)
    tables = [pack_documents(list(of_shard), 1, 2, 4, 0, 100) for of_shard in numbers]
    corpus = corpus_of(Storage.at(s3_server.workspace()), {"train": tables})
    limit = 4 * corpus.manifest.files["train/00000.arrow"]["bytes"]
    fetched: list[str] = []
    plain = Storage.pieces

    def pieces(self: Storage, name: str) -> Iterator[bytes]:
        fetched.append(name)
        return plain(self, name)

    monkeypatch.setattr(Storage, "pieces", pieces)
    rows = PackedRows(corpus, "train", limit / 1e9, window=2)
    cache = tmp_path / ".cache" / "raymill" / "files"
    seen: list[tuple[int, int]] = []
    with Batches(PackedNumbers(), Training(batch_size=4), rows, 17, Topology(0, 1), tokens) as feed:  # type: ignore[arg-type]
        for start in range(0, 160, 4):
            seen += taken(feed.at(start, is_last=start == 156)[0])
            kept = [path for path in cache.iterdir() if path.suffix != ".part"]
            assert len(kept) <= 4
    assert sorted(seen) == list(enumerate(rows.order(17).at(0, 160).tolist()))
    assert 12 <= len(fetched) <= 20, "the window behind the end is fetched too, those kept are not"
