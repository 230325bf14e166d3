from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainers.scoring.evaluation.paired import differences, flips, mcnemar, p_value, same_rows
from trainers.tasks.classify.figures import tally


def records(right: list[bool]) -> list[dict[str, Any]]:
    return [
        {"gold": "a", "prediction": "a" if is_right else "b", "score": 0.5} for is_right in right
    ]


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_p_is_the_binomial_tests(only_first: int, only_second: int) -> None:
    found = mcnemar(only_first, only_second)
    assert found == mcnemar(only_second, only_first)
    if only_first + only_second:
        expected = stats.binomtest(only_first, only_first + only_second, 0.5).pvalue
        assert found == pytest.approx(expected)
    else:
        assert found == 1.0


def test_of_many_rows_it_is_near_the_chi_squared_one() -> None:
    """As textbooks compute it, with Edwards's correction: (|b - c| - 1)^2 / (b + c)."""
    expected = stats.chi2.sf((abs(520 - 430) - 1) ** 2 / 950, df=1)
    assert mcnemar(520, 430) == pytest.approx(expected, rel=0.02)


def test_flips_are_rows_that_one_alone_has_right() -> None:
    found = flips(
        tally(records([True, True, False, False])), tally(records([True, False, True, False]))
    )
    assert (found.only_first.tolist(), found.only_second.tolist()) == ([1], [2])
    assert found.p == 1.0


def test_rows_are_matched_by_their_ids() -> None:
    first = [{"id": id_, "of": "first"} for id_ in "abcd"]
    second = [{"id": id_, "of": "second"} for id_ in "xdba"]
    ours, theirs = same_rows(first, second)
    assert [(one["id"], one["of"]) for one in ours] == [(id_, "first") for id_ in "abd"]
    assert [(one["id"], one["of"]) for one in theirs] == [(id_, "second") for id_ in "abd"]


def test_a_model_does_not_differ_from_itself() -> None:
    own = tally(records([True] * 30 + [False] * 20))
    for of in differences(own, own).values():
        assert (of["difference"], of["interval"], of["p"]) == (0.0, [0.0, 0.0], 1.0)


def test_pairs_tell_more_than_two_intervals_do() -> None:
    """Both are right on 700 of 1,000 rows, and the first on 30 more: each alone is known to 0.028,
    their difference to less than a half of that."""
    first = tally(records([True] * 730 + [False] * 270))
    second = tally(records([True] * 700 + [False] * 300))
    of = differences(first, second)["accuracy"]
    assert (of["first"], of["second"]) == (0.73, 0.7)
    assert of["difference"] == pytest.approx(0.03)
    low, high = of["interval"]
    assert 0.015 < low < 0.03 < high < 0.045
    assert of["p"] < 0.002
    back = differences(second, first)["accuracy"]
    assert back["difference"] == pytest.approx(-0.03)
    assert back["p"] == of["p"]


def test_a_p_value_is_two_sided_and_never_nothing() -> None:
    assert p_value(np.array([0.1] * 999)) == pytest.approx(2 / 1000)
    assert p_value(np.array([-0.1, 0.1] * 500)) == 1.0
    assert p_value(np.array([-0.1] * 25 + [0.1] * 974)) == pytest.approx(2 * 26 / 1000)


def test_only_metrics_of_both_are_compared() -> None:
    several = [{"gold": ["a"], "prediction": ["a"]}] * 3
    found = differences(tally(records([True] * 3)), tally(several))
    assert [*found] == ["accuracy", "macro_f1", "micro_f1"]
