from typing import Any

import pyarrow.parquet as pq
import pytest

from trainers.scoring.evaluation import records
from trainers.scoring.evaluation.figures import (
    compared,
    details,
    errors,
    tally_of,
    with_intervals,
)
from trainers.scoring.evaluation.records import labels_in, recorded
from trainers.tasks.classify.spec import Classify

TASK = Classify()


def record(number: int, prediction: str, score: float = 0.9, **columns: Any) -> dict[str, Any]:
    return {
        "row": number,
        "id": f"{number:04}",
        "gold": "a",
        "prediction": prediction,
        "score": score,
        "tokens": number + 2,
        "truncated": number > 30,
        "group": None,
        "text": f"text {number}",
        **columns,
    }


def test_intervals_stand_beside_the_figures_and_by_group_where_there_are_groups() -> None:
    alone = [record(number, "ab"[number % 3 == 2]) for number in range(60)]
    found = with_intervals(TASK, alone, tally_of(TASK, alone))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["intervals"].keys() == {"accuracy", "macro_f1", "micro_f1", "calibration_error"}
    assert "intervals_by_group" not in found
    grouped = [{**one, "group": f"g{one['row'] // 10}"} for one in alone]
    of_groups = with_intervals(TASK, grouped, tally_of(TASK, grouped))
    assert of_groups["intervals"] == found["intervals"]
    assert of_groups["intervals_by_group"] != found["intervals"]


def test_what_was_read_is_counted() -> None:
    some = [record(number, "a") for number in range(40)]
    found = details(some, tally_of(TASK, some))
    assert found["reading"] == {"tokens": sum(range(2, 42)), "longest": 41, "truncated": 9}
    assert sum(one["answers"] for one in found["calibration"]) == 40
    assert "tokens" not in found["slices"]
    assert found["unsliced"] == {}


def test_flips_come_with_the_row_first_where_the_other_is_most_wrong() -> None:
    first = [record(number, "a" if number < 40 else "b") for number in range(50)]
    second = [
        record(number, "a" if number % 2 else "b", score=0.5 + number / 100) for number in range(50)
    ]
    test, only_first, only_second = compared(TASK, first, second)
    by_how_sure_the_second_was = [*range(38, -1, -2)]
    assert [first[place]["row"] for place in only_first] == by_how_sure_the_second_was
    assert [first[place]["row"] for place in only_second] == [*range(41, 50, 2)]
    assert (test["rows"], test["both_right"]) == (50, 20)
    assert (test["only_first_right"], test["only_second_right"]) == (20, 5)
    assert test["metrics"]["accuracy"]["difference"] == pytest.approx(0.3)


def test_the_surest_errors_come_first() -> None:
    some = [record(0, "a", 1.0), record(1, "b", 0.6), record(2, "b", 0.95), record(3, "b", 0.7)]
    assert [one["row"] for one in errors(tally_of(TASK, some), some, most=2)] == [2, 3]


def test_what_has_most_labels_wrong_is_worse_than_what_is_surer() -> None:
    task = Classify(multi_label=True)
    some = [
        {**record(0, "a"), "gold": ["a"], "prediction": ["a"], "score": 0.99},
        {**record(1, "a"), "gold": ["a"], "prediction": ["b"], "score": 0.6},
        {**record(2, "a"), "gold": ["a"], "prediction": [], "score": 0.9},
    ]
    assert [one["row"] for one in errors(tally_of(task, some), some, most=5)] == [1, 2]


def test_records_know_their_row_and_its_plain_columns(tmp_path: Any) -> None:
    rows = [{"id": "x", "text": "很好", "label": "a", "group": "g", "shop": 7, "tokens_of": ["t"]}]
    said = [{"gold": "a", "prediction": "b", "score": 0.5, "tokens": 3, "truncated": False}]
    (made,) = recorded(rows, said, first=5)
    assert made == {
        "row": 5,
        "id": "x",
        **said[0],
        "group": "g",
        "characters": 2,
        "shop": 7,
        "text": "很好",
    }
    mixed = {**made, "shop": "eight", "gold": "c"}
    records.write([made, mixed], tmp_path)
    kept = pq.read_table(tmp_path / records.RECORDS).to_pylist()
    assert kept == [{**made, "shop": "7"}, mixed], "a column of two types is texts"


def test_labels_are_those_of_texts_lists_and_entities() -> None:
    assert labels_in("a") == {"a"}
    assert labels_in(["a", "b", "a"]) == {"a", "b"}
    assert labels_in([{"start": 0, "end": 2, "label": "PER"}]) == {"PER"}
    assert labels_in([]) == set()
