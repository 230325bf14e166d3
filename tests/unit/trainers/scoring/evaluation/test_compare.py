import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store.artifacts import Artifact, drafting
from cluster.store.storage import Storage
from serving.rollout.promote import promote
from tests.fakes import published
from tests.unit.trainers.corpora.report.reading import Read
from trainers.scoring.evaluation import records
from trainers.scoring.evaluation.compare import (
    comparable,
    compare_evaluations,
    flipped,
    refuse_unlike,
    table,
)
from trainers.scoring.evaluation.evaluate import plan_evaluation
from trainers.scoring.model import Model, model_of


def record(number: int, prediction: str, gold: str = "好") -> dict[str, Any]:
    return {
        "row": number,
        "id": f"{number:04}",
        "gold": gold,
        "prediction": prediction,
        "score": 0.5 + number / 200,
        "tokens": 9,
        "truncated": False,
        "group": None,
        "text": f"这家店{number}",
    }


def model(storage: Storage, name: str, task: str = "classify", labels: str = "好差") -> Model:
    card = json.dumps({"task": task, "labels": [*labels]})
    inputs = {"finetune": {"task": task}}
    made = published(storage, f"model/{name}-finetune-00", {"raymill.json": card}, inputs=inputs)
    return model_of(made)


def evaluation(of: Model, stage: str, predictions: str) -> Artifact:
    name = of.name
    with drafting(of.workspace, f"evaluation/{name}-{stage}-00") as draft:
        with draft.folder() as folder:
            made = [record(number, prediction) for number, prediction in enumerate(predictions)]
            records.write(made, folder)
        return draft.publish(
            recipe=name, stage=stage, parents={"finetune": of.id}, inputs={}, metrics={}
        )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(str(tmp_path))


def test_a_comparison_has_the_differences_and_the_rows_that_flip(storage: Storage) -> None:
    ours, theirs = model(storage, "ours"), model(storage, "theirs")
    first = evaluation(ours, "evaluate", "好" * 30 + "差" * 10)
    second = evaluation(theirs, "evaluate", "差" * 12 + "好" * 20 + "差" * 8)
    made = compare_evaluations(ours, theirs, first, second)
    metrics = made.manifest.metrics
    assert (metrics["only_first_right"], metrics["only_second_right"]) == (12, 2)
    assert metrics["metrics"]["accuracy"]["difference"] == pytest.approx(0.25)
    assert metrics["headline"] == {"difference in accuracy": pytest.approx(0.25)}
    assert compare_evaluations(ours, theirs, first, second) == made, "once"
    head, accuracy, *_ = table(made, ours.section)
    assert head[0] == "METRIC"
    assert accuracy[:3] == ("accuracy", "0.7500", "0.5000")
    assert accuracy[3].startswith("+0.2500 [+")
    assert [*flipped(made)] == [
        "of 40 rows both have 18 right, only model/ours-finetune-00 12, only "
        "model/theirs-finetune-00 2 (McNemar's test: p 0.0129)"
    ]
    page = Read((made.path / "report.html").read_text("utf-8"))
    assert page.text.count("这家店") == 14
    assert page.text.index("这家店31") < page.text.index("这家店30"), "the surest error first"


def test_rows_of_other_test_sets_are_refused_with_counts() -> None:
    first, second = [record(n, "好") for n in range(9)], [record(n, "好") for n in range(4, 11)]
    expected = r"5 are in both test sets, 4 only in the first, 2 only in the second; .*--data FILE"
    with pytest.raises(UserError, match=expected):
        comparable(first, second, of_one_file=False)
    ours, theirs, left_out = comparable(first, second, of_one_file=True)
    assert [one["row"] for one in ours] == [one["row"] for one in theirs] == [4, 5, 6, 7, 8]
    assert left_out == 6
    with pytest.raises(UserError, match="0 are in both test sets, 9 only in the first"):
        comparable(first, [record(20, "好")], of_one_file=True)


def test_rows_whose_labels_differ_are_refused() -> None:
    first, second = [record(1, "好"), record(2, "好")], [record(2, "好", "差"), record(1, "好")]
    with pytest.raises(UserError, match="of 2 rows 1 have another label"):
        comparable(first, second, of_one_file=False)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"name": "ours"}, "that is the same model"),
        ({"name": "b", "task": "tag"}, "it is of the task tag, and model/ours-.* of classify"),
        ({"name": "b", "labels": "好平"}, "their labels differ; only it knows 平, .* knows 差"),
    ],
)
def test_models_that_no_rows_compare_are_refused(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, other: dict[str, str], says: str
) -> None:
    from tests.tagging import Tag
    from trainers.tasks import registry

    monkeypatch.setitem(registry.TASKS, "tag", Tag)  # type: ignore[arg-type]
    ours = model(storage, "ours")
    theirs = ours if other["name"] == "ours" else model(storage, **other)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=says):
        refuse_unlike(ours, theirs)


def test_models_of_two_workspaces_are_refused(storage: Storage, tmp_path: Path) -> None:
    elsewhere = Storage.at(str(tmp_path / "other"))
    with pytest.raises(UserError, match="compare models of one workspace"):
        refuse_unlike(model(storage, "ours"), model(elsewhere, "theirs"))


def test_records_without_ids_are_of_an_older_raymill(storage: Storage) -> None:
    made = evaluation(model(storage, "ours"), "evaluate", "好差")
    path = made.path / records.RECORDS
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(path).drop_columns("id"), path)
    with pytest.raises(UserError, match="its records have no ids, an older raymill wrote it"):
        records.read(made)


def test_no_gate_looks_at_an_evaluation_on_a_file(storage: Storage) -> None:
    ours = model(storage, "ours")
    evaluation(ours, "data", "好好")
    with pytest.raises(UserError, match="was not evaluated"):
        promote(ours.artifact, {})  # type: ignore[arg-type]


def test_a_model_without_labelled_examples_is_refused(storage: Storage) -> None:
    with pytest.raises(UserError, match="model/ours-finetune-00: has no test split"):
        plan_evaluation(model(storage, "ours"))
