"""Who shares what with whom."""

from trainers.parallel.topology import Place


def test_neighbours_share_sequences() -> None:
    places = [Place.of(rank, 6, 3) for rank in range(6)]
    assert [(one.group, one.part) for one in places] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert {(one.groups, one.parts) for one in places} == {(2, 3)}


def test_of_those_that_come_to_the_same_loss_one_counts() -> None:
    assert all(Place.of(rank, 4, 2).has_own_loss for rank in range(4))
    counted = [Place.of(rank, 4, 2, "weights").has_own_loss for rank in range(4)]
    assert counted == [True, False, True, False]
