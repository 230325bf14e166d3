import json
from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import drafting
from cluster.errors import UserError
from cluster.pipeline import StageJob
from cluster.recipe import load
from cluster.storage import Storage
from tests.fakes import Notes
from trainers.corpora import examples
from trainers.corpora.pack import read_arrow

RECIPE = """\
name: demo
corpora:
  sources:
    good: {path: good.txt, label: good}
    bad: {path: bad.txt, label: bad}
  split: {validation: 0.2, test: 0.2}
finetune: {base: some/model}
"""


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    Path("good.txt").write_text("".join(f"good {number}\n" for number in range(50)) + "both\n")
    Path("bad.txt").write_text("".join(f"bad {number}\n" for number in range(30)) + "both\n")


def run(*overrides: str) -> tuple[dict[str, Any], dict[str, list[tuple[str, int]]], list[str]]:
    """The report, the rows of each split, and the labels."""
    storage = Storage.at("mill")
    with drafting(storage, "examples/demo-examples-00") as draft:
        job = StageJob(load("recipe.yaml", overrides), {}, draft, storage, Notes(), {})
        report = examples.run(job)
        with draft.folder() as folder:
            tables = {split: read_arrow(folder / f"{split}.arrow") for split in examples.SPLITS}
            labels = json.loads((folder / "labels.json").read_text("utf-8"))
    rows = {
        split: [(row["text"], row["label"]) for row in table.to_pylist()]
        for split, table in tables.items()
    }
    return report, rows, labels


def test_labelled_documents_are_split_once() -> None:
    report, rows, labels = run()
    assert labels == ["bad", "good"]
    everything = [row for split in rows.values() for row in split]
    expected = {f"{labels[number]} {index}": number for number in (0, 1) for index in range(50)}
    assert len(everything) == 80
    assert dict(everything).items() <= expected.items()
    assert {split: len(found) for split, found in rows.items()} == {
        split: report[split] for split in rows
    }
    assert report["balance"] == {"bad": 30, "good": 50}
    assert report["dropped"] == {"exact duplicate": 1, "two labels": 1}


def test_labels_keep_the_order_of_the_recipe() -> None:
    _, rows, labels = run("finetune.labels=[good, bad, fair]")
    assert labels == ["good", "bad", "fair"]
    assert all(labels[number] == text.split()[0] for text, number in rows["train"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["finetune.labels=[good, fair]"],
            "bad.txt:1: label 'bad' is not in finetune.labels (good",
        ),
        (["corpora.sources.bad.label=good"], "two labels or more, found ['good']"),
        (["corpora.clean.min_characters=50"], "two labels or more, found no documents"),
        (["corpora.split.test=0.001"], "corpora.split: no labelled documents in test of 80"),
    ],
)
def test_what_cannot_be_learned_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        run(*overrides)
    assert says in str(caught.value)
