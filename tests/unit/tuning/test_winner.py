import pytest

from tuning.winner import Trial, choose


def trials(*curves: list[float], status: str = "done") -> list[Trial]:
    return [Trial(number, {}, status, curve) for number, curve in enumerate(curves)]


@pytest.mark.parametrize(("mode", "winner"), [("max", 1), ("min", 2)])
def test_the_best_last_value_wins(mode: str, winner: int) -> None:
    found = choose(trials([0.9, 0.6], [0.5, 0.8], [0.1, 0.5]), mode)
    assert found is not None
    assert found.number == winner


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equals_the_first_wins(mode: str) -> None:
    found = choose(trials([0.8], [0.8], [0.8]), mode)
    assert found is not None
    assert found.number == 0


@pytest.mark.parametrize("status", ["stopped", "failed", "running", "pending"])
def test_a_trial_that_did_not_end_never_wins(status: str) -> None:
    ended = Trial(7, {}, "done", [0.1])
    assert choose([*trials([0.9], status=status), ended], "max") is ended
    assert choose(trials([0.9], status=status), "max") is None


def test_a_trial_without_a_value_never_wins() -> None:
    assert choose(trials([]), "max") is None
    assert choose([], "max") is None
