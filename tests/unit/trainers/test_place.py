"""Who shares what with whom."""

from trainers.place import Place


def test_neighbours_share_sequences() -> None:
    places = [Place.of(rank, 6, 3) for rank in range(6)]
    assert [(one.group, one.part) for one in places] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert {(one.groups, one.parts) for one in places} == {(2, 3)}


def test_who_has_the_same_values_draws_the_same_dropout_and_counts_once() -> None:
    tokens, weights = (
        [Place.of(rank, 4, 2, shares) for rank in range(4)] for shares in ("tokens", "weights")
    )
    assert [one.draw for one in tokens] == [0, 1, 2, 3]
    assert [one.has_own_loss for one in tokens] == [True] * 4
    assert [one.draw for one in weights] == [0, 0, 1, 1]
    assert [one.has_own_loss for one in weights] == [True, False, True, False]
