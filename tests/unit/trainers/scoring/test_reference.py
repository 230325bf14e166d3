"""What the base says of rows is kept in their order, and found again."""

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import Notes, published
from trainers.corpora.tokens.pack import write_arrow
from trainers.scoring.reference import AskSplits, _parts, with_reference
from trainers.tasks.spec import REFERENCE


class Counting:
    """A Predictor that says of rows what they are."""

    def references(self, rows: Any, is_rendered: bool) -> list[tuple[float, float]]:
        key = "number" if is_rendered else "id"
        return [(float(row[key]), float(is_rendered)) for row in rows]


@pytest.fixture
def examples(tmp_path: Path) -> Artifact:
    made = published(Storage.at(str(tmp_path)), "examples/demo-examples-00")
    write_arrow(pa.table({"id": ["7", "5", "6"]}), made.path / "test.arrow")
    return made


@pytest.fixture
def rendered(tmp_path: Path) -> Artifact:
    made = published(Storage.at(str(tmp_path)), "rows/demo-render-00")
    write_arrow(pa.table({"number": [10, 11, 12]}), made.path / "train.arrow")
    return made


def test_parts_are_all_rows_in_their_order() -> None:
    parts = [*_parts({"train": 514, "validation": 3})]
    assert [(part["split"], part["first"], part["stop"]) for part in parts] == [
        ("train", 0, 256),
        ("train", 256, 512),
        ("train", 512, 514),
        ("validation", 0, 3),
    ]


def test_rendered_rows_are_asked_about_as_they_are_trained_on(
    examples: Artifact, rendered: Artifact
) -> None:
    work = AskSplits(examples, rendered)
    part = {"split": "train", "first": 1, "stop": 3}
    outcome = work(Counting(), 0, part, Notes(), contextlib.nullcontext())
    assert outcome["rows"] == 2
    assert outcome[REFERENCE] == [(11.0, 1.0), (12.0, 1.0)]


def test_rows_of_the_test_split_are_found_by_their_ids(
    examples: Artifact, rendered: Artifact, tmp_path: Path
) -> None:
    work = AskSplits(examples, rendered)
    part = {"split": "test", "first": 0, "stop": 3}
    outcome = work(Counting(), 0, part, Notes(), contextlib.nullcontext())
    kept = published(Storage.at(str(tmp_path)), "reference/demo-reference-00")
    columns = {REFERENCE: pa.array(outcome[REFERENCE], pa.list_(pa.float32()))}
    write_arrow(pa.table({**columns, "id": outcome["ids"]}), kept.path / "test.arrow")
    found = with_reference([{"id": "5"}, {"id": "7"}], kept)
    assert [row[REFERENCE] for row in found] == [[5.0, 0.0], [7.0, 0.0]]
    assert with_reference([{"id": "5"}], None) == [{"id": "5"}]
