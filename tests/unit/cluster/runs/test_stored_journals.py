"""What status shows of trainings follows from the files of a workspace alone."""

import json
from typing import Any

import pytest

from cluster.cli import summary
from cluster.runs import stored_journals
from cluster.store.storage import Storage
from tests.fakes import published, told_training

MODEL = "model/demo-pretrain-0123"


def record(status: str = "running", artifact: str | None = MODEL) -> dict[str, Any]:
    stage = {"stage": "pretrain", "status": status, "artifact": artifact, "seconds": 0.0}
    run = {"id": "20261124-demo", "recipe": "demo", "started": "", "status": status, "error": ""}
    return {**run, "stages": [{**stage, "metrics": {}}]}


@pytest.mark.parametrize("is_over", [False, True])
def test_a_training_is_found_while_it_goes_on_and_afterwards(
    storage: Storage, is_over: bool
) -> None:
    files = told_training()
    if is_over:
        published(storage, MODEL, files)
    else:
        for name, text in files.items():
            storage.write(f"work/demo-pretrain-0123/{name}", text.encode())
    (journal,) = stored_journals.of_run(storage, record()).values()
    assert journal.place == (MODEL if is_over else "work/demo-pretrain-0123")
    assert journal.points("loss")[:2] == [(1, 8.0), (2, 7.98)]
    assert journal.points("accuracy", "validation") == [(50, 0.25), (100, 0.5)]
    short = journal.as_json()
    assert short["goodput"] == pytest.approx(80 / 111, abs=1e-4)
    assert short["last"]["step"] == 100
    json.dumps(short)


def test_it_is_drawn_with_its_curve_and_where_its_time_went(storage: Storage) -> None:
    published(storage, MODEL, told_training())
    run = record("done")
    shown = summary.detail(run, stored_journals.of_run(storage, run), {"log": "/log"})
    assert shown[4].startswith("  pretrain: loss 8 █")
    assert shown[4].endswith("▁ 6.02 at step 100")
    assert shown[5:7] == [
        "  pretrain: goodput 72.1% of 1.9 min, until 01:48:31 UTC",
        "  pretrain: compute 72.1%, evaluation 4.5%, startup 5.4%, restart 9.0%, lost 9.0%",
    ]


def test_stages_without_a_journal_have_none(storage: Storage) -> None:
    published(storage, "corpus/demo-shard-00", {"x": "y"})
    assert stored_journals.of_run(storage, record("done", "corpus/demo-shard-00")) == {}
    assert stored_journals.of_run(storage, record("failed")) == {}
    assert stored_journals.of_run(storage, record("done", artifact=None)) == {}
    published(storage, MODEL, told_training())
    assert list(stored_journals.of_run(storage, record("skipped"))) == ["pretrain"]
