"""The rows behind the order, and which of them a rank takes."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.packed import corpus_of
from trainers.corpora.feeding.feed import Examples, PackedRows, TokenRows, cut, deal
from trainers.corpora.tokens.pack import pack_documents
from trainers.engine.zero import accumulation


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 5, 16])
@pytest.mark.parametrize("batch_size", [7, 8, 32, 33])
def test_a_batch_is_dealt_whole_and_evenly(
    batch_size: int, micro_batch_size: int, world_size: int
) -> None:
    lengths = np.random.default_rng(batch_size).integers(1, 100, batch_size)
    # As the loop does it: what DeepSpeed accumulates over must be what is dealt.
    micro_batch, steps = accumulation(batch_size, world_size, micro_batch_size)
    hands = [deal(lengths, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(hands).tolist()) == list(range(batch_size))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    for hand in hands:
        micro_batches = cut(lengths[hand], steps, micro_batch)
        assert len(micro_batches) == steps
        assert sorted(np.concatenate(micro_batches).tolist()) == list(range(len(hand)))


def test_ranks_are_dealt_similar_lengths() -> None:
    lengths = np.array([90, 1, 80, 2, 85, 3, 95, 4])
    hands = [lengths[deal(lengths, rank, 2)].tolist() for rank in range(2)]
    assert hands == [[95, 85, 4, 2], [90, 80, 3, 1]]


def padded(lengths: Sequence[int]) -> int:
    return len(lengths) * max(lengths, default=0)


def partings(lengths: Sequence[int], count: int) -> Iterator[list[int]]:
    """Tokens with padding of all ways to cut lengths in their order, by the largest part."""
    for ends in itertools.combinations_with_replacement(range(len(lengths) + 1), count - 1):
        edges = [0, *ends, len(lengths)]
        yield [padded(lengths[low:high]) for low, high in itertools.pairwise(edges)]


@given(lengths=st.lists(st.integers(1, 50), max_size=9), micro_batch_size=st.integers(1, 4))
def test_no_cut_has_fewer_tokens_with_padding(lengths: list[int], micro_batch_size: int) -> None:
    count = max(1, -(-len(lengths) // micro_batch_size))
    found = cut(np.array(lengths, dtype=np.int64), count, micro_batch_size)
    costs = [padded([lengths[place] for place in places]) for places in found]
    most = micro_batch_size * max(lengths, default=0)
    allowed = [
        sum(each)
        for each in partings(sorted(lengths, reverse=True), count)
        if max(each, default=0) <= most
    ]
    assert max(costs) <= most
    assert sum(costs) == min(allowed)
    assert sum(not len(places) for places in found) == max(0, count - len(lengths))


@given(
    lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=900),
    micro_batch_size=st.integers(1, 300),
)
def test_large_batches_are_cut_too(lengths: list[int], micro_batch_size: int) -> None:
    count = -(-len(lengths) // micro_batch_size)
    found = cut(np.array(lengths, dtype=np.int64), count, micro_batch_size)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    costs = [padded([lengths[place] for place in places]) for places in found]
    ordered = sorted(lengths, reverse=True)
    evenly = [
        ordered[at : at + micro_batch_size] for at in range(0, len(ordered), micro_batch_size)
    ]
    assert len(found) == count
    assert max(costs) <= micro_batch_size * max(lengths)
    assert sum(costs) <= sum(map(padded, evenly))


def test_no_micro_batch_is_empty_where_many_lengths_are_equal() -> None:
    found = cut(np.array([90, *[3] * 31]), 8, 4)
    assert min(map(len, found)) > 0


def test_equal_lengths_are_cut_evenly() -> None:
    assert [len(one) for one in cut(np.full(24, 7), 3, 8)] == [8, 8, 8]


def table_of(*firsts: int) -> pa.Table:
    """A sequence of one piece for each number: [1, number, 2, padding]."""
    documents = [np.array([first], dtype=np.uint16) for first in firsts]
    return pack_documents(documents, 1, 2, 4, 0, 100)


def test_packed_rows_are_taken_by_number_over_all_shards(tmp_path: Path) -> None:
    shards = [table_of(20, 21, 22), table_of(), table_of(30), pa.concat_tables(
        [table_of(40, 41), table_of(42, 43, 44)])]  # fmt: skip
    corpus = corpus_of(Storage.at(str(tmp_path)), {"train": shards, "validation": [table_of(50)]})
    rows = PackedRows(corpus, "train", cache_gb=1)
    assert (len(rows), rows.sequence_length) == (9, 4)
    numbers = [20, 21, 22, 30, 40, 41, 42, 43, 44]
    for taken in ([8, 0, 3, 7, 4, 6, 1, 2, 5], [4], [2, 2]):
        found = rows.take(np.array(taken))
        assert [row["input_ids"].tolist() for row in found] == [
            [1, numbers[place], 2, 0] for place in taken
        ]
        assert all(row["piece_lengths"].tolist() == [3] for row in found)
    assert rows.lengths(np.array([5, 0])).tolist() == [4, 4]
    (held_out,) = PackedRows(corpus, "validation", cache_gb=1).take(np.array([0]))
    assert held_out["input_ids"].tolist() == [1, 50, 2, 0]


def test_packed_rows_are_views_of_the_files(tmp_path: Path) -> None:
    """A corpus larger than memory is not copied into it."""
    corpus = corpus_of(Storage.at(str(tmp_path)), {"train": [table_of(*range(5, 90))]})
    before = pa.total_allocated_bytes()
    (row,) = PackedRows(corpus, "train", cache_gb=1).take(np.array([7]))
    assert not row["input_ids"].flags.owndata
    assert not row["piece_lengths"].flags.owndata
    assert pa.total_allocated_bytes() == before


def remote(tmp_path: Path, shards: int) -> tuple[Artifact, int]:
    """A corpus behind a URI, and the bytes of each of its shards."""
    storage = Storage.at(f"file://{tmp_path / 'workspace'}")
    tables = [table_of(*range(10 * shard, 10 * shard + 10)) for shard in range(shards)]
    corpus = corpus_of(storage, {"train": tables})
    return corpus, corpus.manifest.files["train/00000.arrow"]["bytes"]


def test_a_cache_that_cannot_hold_what_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    corpus, size = remote(tmp_path, shards=6)
    room = 5 * size / 1e9
    PackedRows(corpus, "train", room, window=2)
    PackedRows(corpus, "train", 6 * size / 1e9)
    with pytest.raises(UserError, match=r"cluster.cache_gb: .* set pretrain.shuffle_window: 2 or"):
        PackedRows(corpus, "train", room, window=3)
    with pytest.raises(UserError, match=r"cluster.cache_gb: .* read at a time; set more"):
        PackedRows(corpus, "train", size / 1e9)


def test_examples_are_encoded_when_they_are_taken() -> None:
    encoded: list[str] = []

    def encode(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        encoded.extend(row["text"] for row in rows)
        return [{"input_ids": [len(row["text"])], "label": row["label"]} for row in rows]

    rows = Examples(pa.table({"text": ["好", "很好", "差"], "label": ["a", "b", "c"]}), encode)
    assert len(rows) == 3
    assert rows.lengths(np.array([1, 0, 1])).tolist() == [2, 1, 2]
    assert encoded == []
    assert rows.take(np.array([2, 1])) == [
        {"input_ids": [1], "label": "c"},
        {"input_ids": [2], "label": "b"},
    ]
    assert encoded == ["差", "很好"]


@pytest.mark.parametrize("grouped", [None, 2])
def test_rows_of_token_ids_are_found_in_any_batch_of_their_file(grouped: int | None) -> None:
    ids = [[row] * (1 + 3 * row % 5) for row in range(11)]
    learned = [[place % 2 == 0 for place in range(len(row))] for row in ids]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32())), "learned": pa.array(learned)}
    table = pa.table(columns)
    rows = TokenRows(pa.concat_tables([table[:4], table[4:4], table[4:5], table[5:]]), grouped)
    order = rows.order(seed=1).at(0, 11)
    assert sorted(order.tolist()) == list(range(11))
    for index, row in zip(order, rows.take(order), strict=True):
        assert row["input_ids"].tolist() == ids[index]
        assert row["learned"].tolist() == learned[index]
    assert rows.lengths(order).tolist() == [len(ids[index]) for index in order]
