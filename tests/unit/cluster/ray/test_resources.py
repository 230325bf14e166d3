import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.ray.resources import RAY_STEPS, concurrent, gpus, largest, refuse_unless_fits


@pytest.mark.parametrize("wanted", [{}, {"CPU": 2}, {"CPU": 2, "GPU": 0}, {"CPU": 0.5}])
def test_what_fits_is_not_refused(wanted: dict[str, float]) -> None:
    refuse_unless_fits("pretrain.workers", wanted, {"CPU": 2.0, "GPU": 0.0}, "set fewer workers")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"CPU": 4}, "pretrain.workers: needs 4 CPUs at once, the cluster has 2; set fewer"),
        ({"CPU": 2, "GPU": 1}, "pretrain.workers: needs 1 GPUs at once, the cluster has 0; set"),
        ({"TPU": 1}, "needs 1 TPUs at once, the cluster has 0"),
        ({"CPU": 2.5}, "needs 2.5 CPUs"),
    ],
)
def test_what_can_never_fit_is_refused(wanted: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        refuse_unless_fits(
            "pretrain.workers", wanted, {"CPU": 2.0, "GPU": 0.0}, "set fewer workers"
        )


@pytest.mark.parametrize(
    ("each", "available", "at_most", "expected"),
    [
        ({"CPU": 1}, {"CPU": 4.0}, 2, 2),
        ({"CPU": 1}, {"CPU": 4.0}, 8, 4),
        ({"CPU": 3}, {"CPU": 4.0}, 8, 1),
        ({"CPU": 8}, {"CPU": 4.0}, 8, 0),
        ({"CPU": 1, "GPU": 1}, {"CPU": 4.0, "GPU": 3.0}, 8, 3),
        ({"CPU": 1, "GPU": 1}, {"CPU": 4.0}, 8, 0),
        ({"CPU": 0.5}, {"CPU": 4.0}, 9, 8),
        ({"CPU": 0.1}, {"CPU": 1.0}, 99, 10),  # 1.0 // 0.1 is 9
        ({"GPU": 0.1}, {"GPU": 1.0}, 99, 10),
        ({"GPU": 0.4}, {"GPU": 2.0}, 99, 4),  # two on each
        ({"GPU": 0.4}, {"GPU": 1.5}, 99, 3),  # of one GPU a half is held
        ({"GPU": 0.3333}, {"GPU": 1.0}, 99, 3),
    ],
)
def test_as_many_groups_run_as_fit(
    each: dict[str, float], available: dict[str, float], at_most: int, expected: int
) -> None:
    assert concurrent(each, available, at_most) == expected


@given(
    each=st.integers(1, RAY_STEPS).map(lambda steps: steps / RAY_STEPS),
    whole=st.integers(1, 8),
)
def test_what_processes_on_shared_gpus_hold_fits_where_they_do(each: float, whole: int) -> None:
    fitting = concurrent({"GPU": each}, {"GPU": float(whole)}, 2**31)
    assert gpus(fitting, each) <= whole + 1e-6
    assert gpus(fitting + 1, each) > whole


def test_whole_gpus_are_their_number() -> None:
    assert [gpus(3, each) for each in (0, 1, 2, 0.5)] == [0, 3, 6, 1.5]
    assert gpus(3, 0.6) == 3, "one lies on each"


def test_what_a_cluster_can_grow_to_counts() -> None:
    now, limits = {"CPU": 0.0, "memory": 8.0}, {"CPU": 64, "GPU": 8}
    assert largest({"GPU": 0.0}, now, limits) == {"CPU": 64, "GPU": 8, "memory": 8.0}
