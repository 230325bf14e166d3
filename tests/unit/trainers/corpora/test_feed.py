"""The order of samples, and who takes which: the same at any number of workers."""

from pathlib import Path

import numpy as np
import pytest

from trainers.corpora.feed import Order, Packed, Tokenized, deal
from trainers.corpora.pack import pack_documents, write_arrow
from trainers.zero import accumulation

SIZES = [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000]


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_holds_every_sample_once(size: int) -> None:
    order = Order(size, seed=17)
    for epoch in range(3):
        assert sorted(order.at(epoch * size, size)) == list(range(size))


@pytest.mark.parametrize("batch", [1, 7, 32, 300])
@pytest.mark.parametrize("size", [1, 5, 64, 100])
def test_the_order_does_not_depend_on_the_steps_it_is_asked_in(size: int, batch: int) -> None:
    order = Order(size, seed=17)
    whole = order.at(0, 3 * size)
    starts = range(0, 3 * size, batch)
    parts = [order.at(start, min(batch, 3 * size - start)) for start in starts]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_order_is_far_from_sorted_and_differs_by_epoch_and_seed() -> None:
    size = 1000
    orders = [Order(size, seed).at(epoch * size, size) for seed in (1, 2) for epoch in (0, 1)]
    orders.append(np.arange(size))
    for one in range(len(orders)):
        for other in range(one):
            agreeing = int((orders[one] == orders[other]).sum())
            assert agreeing < 10, "about one sample keeps its place by chance"
            assert abs(np.corrcoef(orders[one], orders[other])[0, 1]) < 0.15


def test_the_order_stays_as_it_is() -> None:
    """A run that resumes under a newer raymill must see the samples that it has not seen."""
    assert Order(10, seed=17).at(8, 4).tolist() == [7, 1, 5, 1]


def test_a_far_position_is_found_at_once() -> None:
    """O(1) memory: nothing is shuffled."""
    assert Order(10**12, seed=17).at(10**13, 2).shape == (2,)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 5, 16])
@pytest.mark.parametrize("batch_size", [7, 8, 32, 33])
def test_a_batch_is_dealt_whole_and_evenly(
    batch_size: int, micro_batch_size: int, world_size: int
) -> None:
    lengths = np.random.default_rng(batch_size).integers(1, 100, batch_size)
    # As the loop does it: what DeepSpeed accumulates over must be what is dealt.
    micro_batch, steps = accumulation(batch_size, world_size, micro_batch_size)
    hands = [deal(lengths, rank, world_size, micro_batch) for rank in range(world_size)]
    places = [place for hand in hands for taken in hand for place in taken]
    assert sorted(places) == list(range(batch_size))
    assert {len(hand) for hand in hands} == {steps}
    assert all(len(taken) <= micro_batch_size for hand in hands for taken in hand)
    shares = [sum(map(len, hand)) for hand in hands]
    assert max(shares) - min(shares) <= 1


def test_a_micro_batch_holds_similar_lengths() -> None:
    lengths = np.array([90, 1, 80, 2, 85, 3, 95, 4])
    hands = [deal(lengths, rank, 2, 2) for rank in range(2)]
    assert [[sorted(lengths[taken].tolist()) for taken in hand] for hand in hands] == [
        [[85, 95], [2, 4]],
        [[80, 90], [1, 3]],
    ]


def test_packed_rows_are_taken_by_number_over_all_shards(tmp_path: Path) -> None:
    for shard, token in (("00001", 30), ("00000", 20)):
        documents = [np.array([token + number], dtype=np.uint16) for number in range(3)]
        write_arrow(pack_documents(documents, 1, 2, 4, 0, 100), tmp_path / f"{shard}.arrow")
    rows = Packed(tmp_path)
    assert (len(rows), rows.sequence_length) == (6, 4)
    assert [row["input_ids"] for row in rows.take(np.array([5, 0]))] == [
        [1, 32, 2, 0],
        [1, 20, 2, 0],
    ]
    assert rows.take(np.array([1]))[0]["piece_lengths"] == [3]
    assert rows.lengths(np.array([5, 0])).tolist() == [4, 4]


def test_tokenized_rows_have_their_own_lengths() -> None:
    rows = Tokenized([[1, 5, 2], [1, 2]], [1, 0])
    assert len(rows) == 2
    assert rows.lengths(np.array([1, 0, 1])).tolist() == [2, 3, 2]
    assert rows.take(np.array([1])) == [{"input_ids": [1, 2], "label": 0}]
