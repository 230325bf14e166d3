"""What pretraining may read: nothing twice, and in shards of a size."""

import numpy as np
import pytest

from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.steps.shard_assignment import Piece, cut, draws, passed, repeated, shards

KEYS = np.array([text_key(f"text {number}") for number in range(20_000)], np.uint64)


def test_the_first_of_equal_keys_stays() -> None:
    keys = np.array([5, 3, 5, 5, 9, 3], np.uint64)
    assert repeated(keys).tolist() == [False, False, True, True, False, True]


def test_draws_are_even_and_differ_by_purpose_and_seed() -> None:
    drawn = draws(KEYS, 17, "validation")
    assert ((drawn >= 0) & (drawn < 1)).all()
    counted = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert abs(counted - 2000).max() < 200
    for other in (draws(KEYS, 18, "validation"), draws(KEYS, 17, "mixture")):
        assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.03
    assert np.array_equal(draws(KEYS[:5], 17, "validation"), drawn[:5])


def test_the_draws_stay_as_they_are() -> None:
    """A text that was held out under an older raymill must not be trained on under a newer one."""
    assert draws(KEYS[:3], 17, "validation") == pytest.approx(EXPECTED_DRAWS)


EXPECTED_DRAWS = [0.28409853069927604, 0.8833072338040769, 0.8348610551933094]


@pytest.mark.parametrize("limit", [1, 7, 10, 1000])
def test_runs_hold_every_document_in_order_and_are_not_too_large(limit: int) -> None:
    lengths = np.random.default_rng(17).integers(0, 12, 50)
    runs = list(cut(lengths, limit))
    assert [run[0] for run in runs] == [0, *(run[1] for run in runs[:-1])]
    assert runs[-1][1] == len(lengths)
    for start, stop, size in runs:
        assert size == lengths[start:stop].sum()
        assert size <= limit or stop - start == 1
    assert not list(cut(lengths[:0], limit))


@pytest.mark.parametrize(("passes", "shares"), [(0.25, [0.25]), (1.0, [1, 1]), (2.5, [1] * 4)])
def test_a_source_is_passed_over_as_often_as_wanted(passes: float, shares: list[float]) -> None:
    pieces = [Piece("a", 0, 10, 100), Piece("a", 10, 20, 100)]
    found = passed(pieces, passes)
    assert sum(piece.share for piece in found) == 2 * passes
    assert sum(piece.bytes for piece in found) == 200 * passes
    assert [piece.share for piece in found][: len(shares) * (passes >= 1)] == shares * (passes >= 1)


def test_pieces_come_together_in_order_up_to_a_size() -> None:
    pieces = [
        Piece("a", number, number + 1, size) for number, size in enumerate((3, 3, 5, 2, 9, 1))
    ]
    made = shards(pieces, 8)
    assert [piece for shard in made for piece in shard] == pieces
    assert [[piece.bytes for piece in shard] for shard in made] == [[3, 3], [5, 2], [9], [1]]
    assert shards([], 8) == []
