"""What is a label, whatever type a file gives it."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from trainers.corpora.examples.label_values import _key_in, label_of
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import parts

DAY = datetime.date(2026, 11, 29)


@pytest.mark.parametrize(
    ("kind", "value", "label"),
    [
        *[(kind, 3, "3") for kind in (pa.int8(), pa.uint64(), pa.float16(), pa.float64())],
        *[(kind, 0.1, "0.1") for kind in (pa.float32(), pa.float64())],
        (pa.float32(), 2.5, "2.5"),
        (pa.bool_(), True, "True"),
        (pa.decimal128(5, 2), decimal.Decimal("3.00"), "3"),
        (pa.decimal256(50, 2), decimal.Decimal("4.50"), "4.5"),
        (pa.date32(), DAY, "2026-11-29"),
        (pa.date64(), DAY, "2026-11-29"),
        (pa.timestamp("us"), datetime.datetime(2026, 11, 29, 8), "2026-11-29 08:00:00"),
        (pa.time32("s"), datetime.time(8, 30), "08:30:00"),
        (pa.duration("s"), datetime.timedelta(hours=1), "1:00:00"),
        (pa.string(), "good", "good"),
        (pa.dictionary(pa.int8(), pa.string()), "good", "good"),
    ],
    ids=str,
)
def test_numbers_and_dates_of_every_type_are_labels(
    kind: pa.DataType, value: Any, label: str, tmp_path: Path
) -> None:
    """ludwig-ai/ludwig#2336"""
    labels = pa.array([value], kind.value_type if pa.types.is_dictionary(kind) else kind)
    pq.write_table(pa.table({"text": ["x"], "label": labels.cast(kind)}), tmp_path / "a.parquet")
    source = Source(path=str(tmp_path / "a.parquet"), columns={"label": "label", "group": "label"})
    (found,) = [d for part in parts(source, "key") for d in read(source, part)]
    assert (found.label, found.group) == (label, label)


@pytest.mark.parametrize("value", [[1], {"a": 1}, ("a",), b"x", object()])
def test_what_is_several_or_nothing_is_no_label(value: Any) -> None:
    assert label_of(value) is None


@pytest.mark.parametrize("key", ["1", "1.0", "1.00"])
@pytest.mark.parametrize("label", ["1", "1.0"])
def test_a_number_is_the_same_with_a_point_or_without(key: str, label: str) -> None:
    assert _key_in({"0": "x", key: "y", "10": "z"}, label) == key
    assert _key_in({"1": "x", "1.0": "y"}, label) == label


def test_other_labels_are_as_they_are() -> None:
    assert _key_in({"1": "x"}, "01") is None
    assert _key_in({"1": "x"}, "v1.0") is None
    assert _key_in({"4.50": "x"}, "4.5") == "4.50"


def test_the_keys_of_a_map_are_what_columns_hold() -> None:
    source = {"path": "a.csv", "columns": {"label": "stars"}}
    found = Source.model_validate({**source, "label_map": {1.0: "a", 2: "b", 2.5: "c", False: "d"}})
    assert found.label_map == {"1": "a", "2": "b", "2.5": "c", "False": "d"}
    with pytest.raises(ValidationError, match=r"are the same label"):
        Source.model_validate({**source, "label_map": {1.0: "a", "1": "b"}})
