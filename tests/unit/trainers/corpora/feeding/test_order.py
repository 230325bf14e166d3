"""The order of samples: each once an epoch, whoever asks, from wherever."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.corpora.feeding.order import Order, OrderByLength, permuted

SIZES = [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000]
SHARDS = st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any)


@pytest.mark.parametrize("size", SIZES)
def test_a_permutation_holds_every_place_once(size: int) -> None:
    for key in range(5):
        places = permuted(np.arange(size), size, np.array([key], dtype=np.uint64))
        assert sorted(places) == list(range(size))


@given(sizes=SHARDS, window=st.none() | st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_holds_every_sample_once(sizes: list[int], window: int | None, seed: int) -> None:
    order = Order(sizes, seed, window)
    for epoch in range(3):
        assert sorted(order.at(epoch * order.size, order.size)) == list(range(order.size))


@given(
    sizes=SHARDS,
    window=st.none() | st.integers(1, 12),
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
)
def test_the_order_does_not_depend_on_the_steps_it_is_asked_in(
    sizes: list[int], window: int | None, parts: list[int]
) -> None:
    whole = Order(sizes, 17, window).at(0, sum(parts))
    starts = np.cumsum([0, *parts])[:-1].tolist()
    # Each part by an order of its own, as after a restart.
    found = [
        Order(sizes, 17, window).at(start, count)
        for start, count in zip(starts, parts, strict=True)
    ]
    assert np.array_equal(np.concatenate(found), whole)


@given(sizes=SHARDS, window=st.integers(1, 12))
def test_samples_come_from_the_shards_of_their_window(sizes: list[int], window: int) -> None:
    """So two windows of shards are all that a reader needs at a time."""
    order = Order(sizes, 17, window)
    ends = np.cumsum(sizes)
    windows = math.ceil(len(sizes) / window)
    for position in range(2 * order.size):
        number = order.window(position)
        assert number // windows == position // order.size
        shards = order.shards(number)
        assert len(shards) <= window
        (sample,) = order.at(position, 1)
        assert np.searchsorted(ends, sample, side="right") in shards
    for epoch in range(2):
        every = [order.shards(epoch * windows + number) for number in range(windows)]
        assert sorted(shard for shards in every for shard in shards) == list(range(len(sizes)))


@pytest.mark.parametrize("window", [None, 4])
def test_the_order_is_far_from_sorted_and_differs_by_epoch_and_seed(window: int | None) -> None:
    size = 1000
    orders = [
        Order([50] * 20, seed, window).at(epoch * size, size) for seed in (1, 2) for epoch in (0, 1)
    ]
    orders.append(np.arange(size))
    for one in range(len(orders)):
        for other in range(one):
            agreeing = int((orders[one] == orders[other]).sum())
            assert agreeing < 10, "about one sample keeps its place by chance"
            # With windows, samples of a shard stay near each other, and shards are few.
            alike = abs(np.corrcoef(orders[one], orders[other])[0, 1])
            assert alike < (0.15 if window is None else 0.6)


def test_windows_are_shuffled_within() -> None:
    """Neighbours in the order come from the window's shards alike."""
    order = Order([100] * 8, 17, 4)
    shards = order.at(0, 400) // 100
    assert len(set(shards.tolist())) == 4
    alike = float((shards[1:] == shards[:-1]).mean())
    assert alike == pytest.approx(1 / 4, abs=0.06)


def test_the_order_stays_as_it_is() -> None:
    """A run that resumes under a newer raymill must see the samples that it has not seen."""
    assert Order([10], seed=17).at(8, 4).tolist() == [1, 6, 1, 0]
    assert Order([3, 4, 3], seed=17, window=2).at(8, 4).tolist() == [8, 9, 6, 1]


def test_a_far_position_is_found_at_once() -> None:
    """O(1) memory: nothing is shuffled."""
    assert Order([10**12], seed=17).at(10**13, 2).shape == (2,)


def test_hardly_a_position_is_walked_twice() -> None:
    """So every batch is found in the same time."""
    for size in (2, 101, 200_000, 10**7 + 1):
        rows = math.isqrt(size - 1) + 1
        assert rows * math.ceil(size / rows) - size < rows


LENGTHS = st.lists(st.integers(0, 500), min_size=1, max_size=400)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_by_length_an_epoch_holds_every_sample_once(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    order = OrderByLength(np.array(lengths), seed, batch_size)
    for epoch in range(3):
        assert sorted(order.at(epoch * order.size, order.size)) == list(range(order.size))


@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 9),
    parts=st.lists(st.integers(1, 90), min_size=1, max_size=12),
)
def test_by_length_the_order_does_not_depend_on_the_steps_it_is_asked_in(
    lengths: list[int], batch_size: int, parts: list[int]
) -> None:
    whole = OrderByLength(np.array(lengths), 17, batch_size).at(0, sum(parts))
    starts = np.cumsum([0, *parts])[:-1].tolist()
    found = [
        OrderByLength(np.array(lengths), 17, batch_size).at(start, count)
        for start, count in zip(starts, parts, strict=True)
    ]
    assert np.array_equal(np.concatenate(found), whole)


def test_batches_by_length_have_little_padding_in_every_epoch_and_come_by_chance() -> None:
    drawn = np.random.default_rng(17)
    lengths = drawn.lognormal(4, 1, 5001).astype(np.int64).clip(1, 256)

    def batches(order: Order) -> list[np.ndarray]:
        return [lengths[order.at(start, 32)] for start in range(0, 3 * 4992, 32)]

    def padding(order: Order) -> float:
        return 1 - lengths.mean() / np.mean([batch.max() for batch in batches(order)])

    assert padding(Order([5001], 17)) > 0.6
    by_length = OrderByLength(lengths, 17, 32)
    assert padding(by_length) < 0.08
    longest = np.array([batch.max() for batch in batches(by_length)])
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.2
    first, second = (by_length.at(epoch * 5001, 5001) for epoch in range(2))
    assert (first == second).mean() < 0.01
