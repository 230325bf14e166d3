from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.scoring.evaluation.bootstrap import clusters_of, intervals, resampled, weights
from trainers.tasks.classify.figures import figures, tally

LABELS = st.sampled_from("abc")
SCORES = st.floats(0, 1, width=32)
ONE_LABEL = st.fixed_dictionaries({"gold": LABELS, "prediction": LABELS, "score": SCORES})
SEVERAL = st.fixed_dictionaries(
    {"gold": st.lists(LABELS, unique=True), "prediction": st.lists(LABELS, unique=True)}
)
RECORDS = st.one_of(
    st.lists(ONE_LABEL, min_size=1, max_size=25), st.lists(SEVERAL, min_size=1, max_size=25)
)


def repeated(records: list[Any], times: Any) -> list[Any]:
    return [record for record, count in zip(records, times, strict=True) for _ in range(int(count))]


@given(RECORDS)
def test_metrics_of_a_resample_are_the_figures_of_its_records(records: list[Any]) -> None:
    """What is drawn as sums is what the records themselves would come to."""
    (found,) = resampled([tally(records)], resamples=5)
    (drawn,) = weights(len(records), 5)
    assert drawn.sum(1).tolist() == [len(records)] * 5
    for number, times in enumerate(drawn):
        of_resample = figures(repeated(records, times))
        for name, values in found.items():
            assert values[number] == pytest.approx(of_resample[name]), name


@given(st.lists(ONE_LABEL, min_size=1, max_size=20), st.data())
def test_records_of_a_group_are_drawn_together(records: list[Any], data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.sampled_from(["x", "y", None]), min_size=len(records)))
    clusters = clusters_of(groups[: len(records)])
    if clusters is None:
        clusters = np.arange(len(records))
    (found,) = resampled([tally(records)], clusters, resamples=5)
    (drawn,) = weights(clusters.max() + 1, 5)
    for number, times in enumerate(drawn):
        of_resample = figures(repeated(records, times[clusters]))
        assert found["accuracy"][number] == pytest.approx(of_resample["accuracy"])


def test_clusters_are_of_groups_and_of_single_records() -> None:
    found = clusters_of(["a", None, "b", "a", None])
    assert found is not None
    assert found.tolist() == [0, 1, 2, 0, 3]
    assert clusters_of(["a", None, "b"]) is None, "no two share one"


def records_of(right: int, wrong: int) -> list[dict[str, Any]]:
    return [
        {"gold": "a", "prediction": "a" if number < right else "b", "score": 0.5}
        for number in range(right + wrong)
    ]


def test_an_interval_is_as_wide_as_the_binomial_says() -> None:
    """Of 1,000 records, 800 right: 1.96 sqrt(0.8 * 0.2 / 1000) = 0.0248 on either side."""
    low, high = intervals(tally(records_of(800, 200)))["accuracy"]
    assert low == pytest.approx(0.8 - 0.0248, abs=0.003)
    assert high == pytest.approx(0.8 + 0.0248, abs=0.003)


def test_copies_tell_nothing_when_they_are_of_one_group() -> None:
    once = records_of(30, 10)
    copied = [record for record in once for _ in range(9)]
    clusters = clusters_of([number for number in range(40) for _ in range(9)])
    by_group = intervals(tally(copied), clusters)["accuracy"]
    assert by_group == intervals(tally(once))["accuracy"]
    low, high = intervals(tally(copied))["accuracy"]
    assert high - low < (by_group[1] - by_group[0]) / 2, "as if each copy were news"


def test_the_same_records_have_the_same_intervals_in_any_number_of_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = tally(records_of(30, 20))
    whole = intervals(counted)
    assert intervals(counted) == whole
    monkeypatch.setattr("trainers.scoring.evaluation.bootstrap.WEIGHTS_AT_ONCE", 7 * 50)
    assert intervals(counted) == whole
