"""What is dealt to a place comes back there, whole and in order."""

from pathlib import Path

import numpy as np
import pytest

from cluster.store.cache import CachedFolder
from cluster.store.storage import Storage
from trainers.corpora.steps import shuffle
from trainers.corpora.steps.shuffle import PLACES, buckets, collect, deal, hash_range, place_of

NONE = np.empty(0, np.int64)


def work(folder: Path) -> CachedFolder:
    return CachedFolder(Storage.at(str(folder.parent)), folder.name, 0)


@pytest.mark.parametrize("places", [1, 2, 7, 40])
def test_every_record_comes_to_its_place_in_the_order_of_the_deals(
    tmp_path: Path, places: int
) -> None:
    drawn = np.random.default_rng(17)
    dealt = {name: drawn.integers(0, 1000, size) for name, size in (("b", 20), ("a", 5), ("c", 0))}
    for name, records in dealt.items():
        deal(tmp_path, name, records, records % places, places)
    for place in range(places):
        found = collect(work(tmp_path), range(place, place + 1), NONE)
        in_order = np.concatenate([dealt["a"], dealt["b"], dealt["c"]])
        assert found.tolist() == in_order[in_order % places == place].tolist()


def test_records_may_have_columns(tmp_path: Path) -> None:
    edges = np.arange(12).reshape(6, 2)
    deal(tmp_path, "one", edges, np.array([1, 0, 1, 0, 0, 1]), 3)
    assert collect(work(tmp_path), range(1, 2), edges[:0]).tolist() == [[0, 1], [4, 5], [10, 11]]
    assert collect(work(tmp_path), range(2, 3), edges[:0]).shape == (0, 2)


def test_where_nothing_was_dealt_there_is_nothing(tmp_path: Path) -> None:
    assert collect(work(tmp_path / "absent"), range(1), NONE).tolist() == []


@pytest.mark.parametrize("documents", [0, 10, 49_999, 400_000, 10**9])
def test_every_place_is_in_one_bucket(documents: int) -> None:
    found = buckets(documents)
    assert list(found) == sorted(found)
    assert [place for places in found.values() for place in places] == list(range(PLACES))
    documents_of_one = documents / len(found)
    assert documents_of_one < 2 * shuffle.DOCUMENTS_A_BUCKET or len(found) == PLACES


def test_a_bucket_has_all_records_of_its_hashes(tmp_path: Path) -> None:
    hashes = np.random.default_rng(17).integers(0, 2**63, 500).astype(np.uint64)
    for name, some in (("a", hashes), ("b", hashes[::-1])):
        deal(tmp_path, name, some, place_of(some))
    found = [collect(work(tmp_path), places, hashes[:0]) for places in buckets(200_000).values()]
    assert sorted(np.concatenate(found)) == sorted([*hashes, *hashes])
    assert all((np.unique(some, return_counts=True)[1] == 2).all() for some in found)


def test_ranges_of_hashes_meet() -> None:
    ranges = [hash_range(places) for places in buckets(200_000).values()]
    assert (ranges[0][0], ranges[-1][1]) == (0, 2**64 - 1)
    ends = [int(last) + 1 for _, last in ranges[:-1]]
    assert [int(first) for first, _ in ranges[1:]] == ends
