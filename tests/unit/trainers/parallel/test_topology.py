from trainers.parallel.topology import Topology


def test_neighbouring_ranks_have_the_same_sequences() -> None:
    ranks = [Topology.of(rank, 6, sp_size=3) for rank in range(6)]
    assert [(one.dp_rank, one.sp_rank) for one in ranks] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert {(one.dp_size, one.sp_size, one.tp_size) for one in ranks} == {(2, 3, 1)}
    assert [one.is_first_of_group for one in ranks] == [True, False, False, True, False, False]


def test_of_ranks_that_compute_the_same_loss_one_counts() -> None:
    assert all(Topology.of(rank, 4, sp_size=2).counts_loss for rank in range(4))
    counted = [Topology.of(rank, 4, tp_size=2).counts_loss for rank in range(4)]
    assert counted == [True, False, True, False]
