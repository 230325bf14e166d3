"""What is dealt to a place comes back there, whole and in order."""

from pathlib import Path

import numpy as np
import pytest

from trainers.corpora.steps.exchange import collect, deal, joined


@pytest.mark.parametrize("places", [1, 2, 7, 40])
def test_every_record_comes_to_its_place_in_the_order_of_the_deals(
    tmp_path: Path, places: int
) -> None:
    drawn = np.random.default_rng(17)
    dealt = {name: drawn.integers(0, 1000, size) for name, size in (("b", 20), ("a", 5), ("c", 0))}
    for name, records in dealt.items():
        deal(tmp_path, name, records, records % places, places)
    for place in range(places):
        found = joined(collect(tmp_path, place), np.empty(0, np.int64))
        in_order = np.concatenate([dealt["a"], dealt["b"], dealt["c"]])
        assert found.tolist() == in_order[in_order % places == place].tolist()


def test_records_may_have_columns(tmp_path: Path) -> None:
    edges = np.arange(12).reshape(6, 2)
    deal(tmp_path, "one", edges, np.array([1, 0, 1, 0, 0, 1]), 3)
    assert joined(collect(tmp_path, 1), edges[:0]).tolist() == [[0, 1], [4, 5], [10, 11]]
    assert joined(collect(tmp_path, 2), edges[:0]).shape == (0, 2)


def test_where_nothing_was_dealt_there_is_nothing(tmp_path: Path) -> None:
    assert collect(tmp_path / "absent", 0) == []
