import datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import from_json
from typing_extensions import TypedDict

from trainers.scoring.batch.columns import (
    JSON,
    RESCUED,
    arrow_type,
    as_json,
    input_table,
    prediction_schema,
    schema_of_files,
    schema_of_rows,
)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], pa.large_string()),
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True], pa.bool_()),
        ([["a"], []], pa.list_(pa.large_string())),
        ([datetime.date(2026, 1, 1)], pa.date32()),
        ([None], pa.large_string()),
    ],
)
def test_the_first_rows_decide_a_columns_type(values: list[Any], kind: pa.DataType) -> None:
    schema = schema_of_rows([{"x": value} for value in values])
    assert schema.field("x").type == kind
    assert schema.field("x").metadata is None


@pytest.mark.parametrize(
    "values", [[1, "a"], [{"a": 1}], [[{"a": 1}]], [[]], [1, True], [[1, "a"]]]
)
def test_what_has_no_one_type_is_json(values: list[Any]) -> None:
    rows = [{"x": value} for value in values]
    schema = schema_of_rows(rows)
    assert schema.field("x").metadata == JSON
    texts = input_table(rows, schema)["x"].to_pylist()
    assert [from_json(text) for text in texts] == values


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (1, 2.5),  # Arrow would cut it to 2
        (1, True),
        (1, "1"),
        (1, 2**70),
        (1.5, True),  # Arrow would take it for 1.0
        (1.5, 2**60 + 1),  # which no float is
        ("a", 3),
        ("a", ["b"]),
        (["a"], "bc"),  # Arrow would take it for a list of characters
        (["a"], [1]),
        (["a"], {"b": 1}),
    ],
)
def test_a_value_that_fits_nowhere_is_rescued(first: Any, later: Any) -> None:
    schema = schema_of_rows([{"x": first}])
    table = input_table([{"x": first}, {"x": later, "new": 1}, {}], schema)
    assert table["x"].to_pylist() == [first, None, None]
    rescued = table[RESCUED].to_pylist()
    assert [rescued[0], rescued[2]] == [None, None]
    assert from_json(rescued[1]) == {"new": 1, "x": later}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
rows = st.lists(st.dictionaries(st.sampled_from("abc"), values), min_size=1, max_size=6)


@given(rows, st.integers(1, 6))
def test_every_value_can_be_read_back(rows: list[dict[str, Any]], first: int) -> None:
    schema = schema_of_rows(rows[:first])
    table = input_table(rows, schema)
    assert table.schema == schema
    for row, written in zip(rows, table.to_pylist(), strict=True):
        rescued = from_json(written.pop(RESCUED) or "{}")
        is_json = {field.name for field in schema if field.metadata == JSON}
        read = {
            name: from_json(value) if name in is_json and value is not None else value
            for name, value in written.items()
        }
        read |= rescued
        assert {k: v for k, v in read.items() if v is not None} == {
            k: v for k, v in row.items() if v is not None
        }


def test_parquet_files_keep_their_types() -> None:
    one = pa.schema(
        [("x", pa.int32()), ("at", pa.timestamp("ns")), ("s", pa.struct([("a", pa.int8())]))]
    )
    other = pa.schema([("x", pa.int64()), ("at", pa.string()), ("more", pa.binary())])
    schema = schema_of_files([one, other])
    assert schema.names == ["x", "at", "s", "more", RESCUED]
    assert schema.field("x").type == pa.int64()
    assert schema.field("at").type == pa.timestamp("ns"), "no type is both: the first file's"
    table = input_table([{"s": {"a": 1}}, {"s": {"a": 1, "b": 2}}, {"more": b"\xff"}], schema)
    assert table["s"].to_pylist() == [{"a": 1}, None, None]
    assert from_json(table[RESCUED][1].as_py()) == {"s": {"a": 1, "b": 2}}
    assert table["more"][2].as_py() == b"\xff"


def test_parquet_files_that_agree_need_no_rescue() -> None:
    kinds = [
        pa.int32(),
        pa.list_(pa.struct([("a", pa.float32())])),
        pa.map_(pa.string(), pa.int8()),
    ]
    schema = pa.schema([(f"column_{n}", kind) for n, kind in enumerate(kinds)])
    assert schema_of_files([schema, schema]).names == schema.names
    assert RESCUED in schema_of_files([schema, pa.schema([("column_0", pa.int64())])]).names
    assert RESCUED in schema_of_files([pa.schema([("kind", pa.float16())])]).names


@pytest.mark.parametrize(
    ("own", "says"),
    [(None, None), ("{}", "{}"), ("my text", "my text"), ({"a": 1}, '{"rescued_data":{"a":1}}')],
)
def test_what_was_rescued_before_is_taken_over(own: Any, says: str | None) -> None:
    of_rows = schema_of_rows([{RESCUED: own, "x": 1}])
    of_files = schema_of_files([pa.schema([(RESCUED, pa.string()), ("x", pa.int64())])])
    for schema in (of_rows, of_files):
        assert schema.names == [RESCUED, "x"]
        table = input_table([{RESCUED: own, "x": 1}, {RESCUED: own, "x": "?"}], schema)
        first, second = table[RESCUED].to_pylist()
        assert first == says
        assert from_json(second) == {"x": "?"} | ({} if own is None else {RESCUED: own})


class Span(TypedDict):
    start: int
    label: str


class Output(BaseModel):
    label: str | list[str]
    probabilities: dict[str, float]
    spans: list[Span] = []
    kind: Literal["a", "b"] = "a"
    checked: Annotated[int | None, "of people"] = None


@pytest.mark.parametrize(
    ("label", "kind"),
    [("x", pa.string()), (["x"], pa.list_(pa.string())), ([], pa.list_(pa.string()))],
)
def test_a_prediction_has_a_column_a_field(label: Any, kind: pa.DataType) -> None:
    schema = prediction_schema(Output, Output(label=label, probabilities={}), "prediction_")
    assert schema == pa.schema(
        [
            ("prediction_label", kind),
            ("prediction_probabilities", pa.map_(pa.string(), pa.float64())),
            (
                "prediction_spans",
                pa.list_(pa.struct([("start", pa.int64()), ("label", pa.string())])),
            ),
            ("prediction_kind", pa.string()),
            ("prediction_checked", pa.int64()),
            ("prediction_score", pa.float64()),
        ]
    )


def test_a_nested_output_is_a_struct() -> None:
    assert arrow_type(list[Output]).value_type.field("probabilities").type == arrow_type(
        dict[str, float]
    )


def test_json_of_what_json_does_not_have() -> None:
    assert as_json({"a": float("nan"), "b": b"\xff", "c": datetime.date(2026, 1, 1)}) == (
        b'{"a":null,"b":"_w==","c":"2026-01-01"}'
    )
    assert as_json("\ud800") == b'"\\ud800"'
