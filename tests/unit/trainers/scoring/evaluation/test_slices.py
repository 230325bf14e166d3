from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.scoring.evaluation.bootstrap import clusters_of
from trainers.scoring.evaluation.slices import slices, unsliced
from trainers.tasks.classify.figures import tally


def sliced(**columns: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Slices of records by columns; every fourth record is wrong."""
    (count,) = {len(values) for values in columns.values()}
    records = [
        {
            "row": number,
            "id": str(number),
            "gold": "a",
            "prediction": "ab"[number % 4 == 3],
            "score": 0.9,
            **{name: values[number] for name, values in columns.items()},
        }
        for number in range(count)
    ]
    groups = [record.get("group") for record in records]
    return slices(records, tally(records), clusters_of(groups))


def sizes(parts: list[dict[str, Any]]) -> dict[str, int]:
    return {part["value"]: part["documents"] for part in parts}


def test_each_value_with_enough_records_is_a_slice_and_the_rest_is_folded_and_told() -> None:
    (parts,) = sliced(shop=["x"] * 40 + ["y"] * 20 + ["rare", "rarer"] * 6 + ["z"] * 30).values()
    assert sizes(parts) == {"x": 40, "z": 30, "y": 20, "2 other values": 12}
    assert [part.get("others") for part in parts] == [None, None, None, 2]
    assert parts[0]["metrics"]["accuracy"] == 0.75
    low, high = parts[0]["intervals"]["accuracy"]
    assert low < 0.75 < high


def test_every_record_is_in_one_slice() -> None:
    values = [f"v{number % 30}" for number in range(900)]
    (parts,) = sliced(shop=values).values()
    assert len(parts) == 13
    assert sum(sizes(parts).values()) == 900
    assert parts[-1]["others"] == 18


@pytest.mark.parametrize(
    "values",
    [["one"] * 50, [None] * 50, [str(number) for number in range(50)], [["a"]] * 50],
    ids=["constant", "nothing", "all differ", "lists"],
)
def test_what_makes_no_parts_is_no_slice(values: list[Any]) -> None:
    assert sliced(column=values) == {}


def test_numbers_of_many_values_are_ranges_in_order() -> None:
    (parts,) = sliced(characters=[*range(1, 201)]).values()
    assert sizes(parts) == {
        "1 to 40": 40,
        "41 to 80": 40,
        "81 to 120": 40,
        "121 to 160": 40,
        "161 to 200": 40,
    }


def test_texts_that_are_numbers_are_ranges_too() -> None:
    """As a column of CSV has them."""
    found = sliced(year=[str(number) for number in range(1901, 2001)], price=["1.50", "20.00"] * 50)
    assert [*sizes(found["year"])] == [
        "1901 to 1920", "1921 to 1940", "1941 to 1960", "1961 to 1980", "1981 to 2000"
    ]  # fmt: skip
    assert sizes(found["price"]) == {"1.5": 50, "20": 50}
    codes = sliced(code=["0100"] * 30 + ["1000"] * 30)
    assert sizes(codes["code"]) == {"0100": 30, "1000": 30}, "what begins with a 0 is a name"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers() | st.floats(allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 30),
)
def test_any_numbers_are_in_ranges_that_have_them(values: list[float], times: int) -> None:
    """Also those that no float holds, such as long ids."""
    found = sliced(column=values * times)
    for parts in found.values():
        assert sum(sizes(parts).values()) == len(values) * times


def test_columns_without_a_value_of_enough_rows_are_told() -> None:
    records = [{"user": f"u{number}", "one": "same", "row": number} for number in range(50)]
    assert unsliced(records) == {"user": 50}


def test_few_numbers_truth_values_and_gaps_are_values() -> None:
    numbers = [5] * 40 + [1] * 30 + [None] * 20 + [float("nan")] * 10
    found = sliced(stars=numbers, truncated=[True] * 25 + [False] * 75)
    assert sizes(found["stars"]) == {"1": 30, "5": 40, "–": 30}
    assert sizes(found["truncated"]) == {"no": 75, "yes": 25}


def test_intervals_of_slices_are_over_groups_but_for_a_slice_that_is_one() -> None:
    """Of every group a quarter is wrong: drawn whole, they always are as good."""
    groups = [f"g{number // 20}" for number in range(160)]
    found = sliced(group=groups, shop=["x"] * 80 + ["y"] * 80)
    assert [part["intervals"]["accuracy"] for part in found["shop"]] == [[0.75, 0.75]] * 2
    assert all(part["intervals"]["accuracy"][0] < 0.75 for part in found["group"])


def test_intervals_do_not_depend_on_where_the_rows_of_a_slice_stand() -> None:
    """Both halves are alike, group by group."""
    groups = [f"g{number // 5}" for number in range(160)]
    first, second = sliced(group=groups, shop=["x"] * 80 + ["y"] * 80)["shop"]
    assert first["intervals"] == second["intervals"]
