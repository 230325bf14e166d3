"""Rows of entities go all the way to the examples artifact: from every kind of file, split by the
labels of their entities, with what was dropped and what is worth telling."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import REPORT, Artifact, drafting
from cluster.store.storage import Storage
from tests.fakes import Notes, serial
from trainers.corpora.examples import merge, read_rows, stage, write_splits
from trainers.corpora.examples.splits import SPLITS
from trainers.corpora.reading import path_checks
from trainers.corpora.steps import near_dedup, quotes
from trainers.corpora.tokens.pack import read_arrow

RECIPE = """\
name: demo
corpora:
  sources: {rows: {path: rows.jsonl}}
  split: {validation: 0.2, test: 0.2}
  decontaminate: null
finetune: {task: ner, base: some/model}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (read_rows, merge, write_splits, quotes, near_dedup):
        monkeypatch.setattr(module, "each", serial)
    Path("r.yaml").write_text(RECIPE)


def write(name: str, *rows: Mapping[str, Any]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    Path(name).write_text("\n".join(lines), "utf-8")


def run(*overrides: str, notes: Notes | None = None) -> tuple[dict[str, Any], Artifact]:
    """The report, and the artifact."""
    storage = Storage.at("mill")
    storage.delete("examples")
    with drafting(storage, "examples/demo-examples-00", resumes=True) as draft:
        recipe = load("r.yaml", overrides, check_files=True)
        report = stage.run(StageJob(recipe, {}, draft, storage, notes or Notes(), {"CPU": 1}))
        return report, draft.publish(
            recipe="demo", stage="examples", parents={}, inputs={}, metrics=report
        )


def found(made: Artifact) -> dict[str, list[tuple[str, str]]]:
    """The entities of all splits by their texts."""
    rows = [row for name in SPLITS for row in read_arrow(made.path / f"{name}.arrow").to_pylist()]
    return {
        row["text"]: [(row["text"][e["start"] : e["end"]], e["label"]) for e in row["entities"]]
        for row in rows
    }


def test_files_of_every_kind_make_the_same_rows() -> None:
    numbers = range(10)
    conll = "".join(f"Anna\tB-PER\n sings{n}\tO\n\n" for n in numbers)
    Path("a.conll").write_text(conll)
    write("b.jsonl", *({"words": ["Bob", f"x{n}"], "tags": ["S-PER", "O"]} for n in numbers))
    write(
        "c.jsonl", *({"text": f"去北京{n}", "label": {"LOC": {"北京": [[1, 2]]}}} for n in numbers)
    )  # as CLUENER has it
    write("d.jsonl", *({"text": f"no {n}", "entities": []} for n in numbers))
    sources = "a: {path: a.conll}, b: {path: b.jsonl, columns: {tokens: words}}, "
    sources += "c: {path: c.jsonl}, d: {path: d.jsonl}"
    report, made = run(f"corpora.sources={{{sources}}}")
    rows = found(made)
    assert rows["Anna sings3"] == [("Anna", "PER")]
    assert rows["Bob x3"] == [("Bob", "PER")]
    assert rows["去北京3"] == [("北京", "LOC")]
    assert rows["no 3"] == []
    assert len(rows) == 40
    names = read_arrow(made.path / "train.arrow").schema.names
    assert names == ["id", "text", "group", "source", "entities"]
    assert json.loads((made.path / "labels.json").read_text()) == ["LOC", "PER"]
    assert report["labels"] == {
        "LOC": {"train": 6, "validation": 2, "test": 2},
        "PER": {"train": 12, "validation": 4, "test": 4},
    }


def test_tagged_texts_have_bare_tags() -> None:
    lines = [f"江/nr 泽民/nr 在/p 北京/ns {n}/m" for n in range(10)]
    Path("a.txt").write_text("\n".join(lines))
    task = "finetune={task: ner, base: x/y, tags: bare, label_map: {nr: person, ns: place}}"
    notes = Notes()
    _, made = run("corpora.sources={a: {path: a.txt, tagged: true}}", task, notes=notes)
    assert found(made)["江泽民在北京7"] == [("江泽民", "person"), ("北京", "place")]
    assert notes.lines[1] == (
        "in the documents read: words whose tag is not in finetune.label_map 20"
    )


def test_copies_with_other_entities_are_dropped() -> None:
    rows = [{"text": f"Anna {n}", "entities": [[0, 4, "PER"]]} for n in range(10)]
    other = [{"text": "Anna 1", "entities": [[0, 4, "LOC"]]}, {"text": "Anna 2 ", "entities": []}]
    write("rows.jsonl", *rows, *other, rows[3])
    report, made = run()
    assert report["dropped"] == {"copies differ in entities": 2, "exact duplicate": 3}
    assert sorted(found(made)) == [f"Anna {n}" for n in (0, *range(3, 10))]


def test_a_held_out_file_has_the_entities_of_its_texts() -> None:
    groups = [None, "a", *[None] * 8]  # a row with one comes first among its copies
    rows = [{"text": f"Anna {n}", "entities": [], "group": one} for n, one in enumerate(groups)]
    write("rows.jsonl", *rows)
    write("test.jsonl", {"text": "Anna 1", "entities": [[0, 4, "PER"]]})
    notes = Notes()
    report, made = run("corpora.sources.test={path: test.jsonl, split: test}", notes=notes)
    (row,) = read_arrow(made.path / "test.arrow").to_pylist()
    assert row["entities"] == [{"start": 0, "end": 4, "label": "PER"}]
    assert report["dropped"]["exact duplicate"] == 1
    assert "labels without training documents, which a model cannot learn: 'PER'" in notes.lines[-1]


def test_nested_and_overlapping_entities_are_kept_and_told() -> None:
    entities = [[0, 4, "ORG"], [0, 2, "LOC"], [2, 5, "X"]]
    write("rows.jsonl", *({"text": f"北京大学{n}校", "entities": entities} for n in range(10)))
    notes = Notes()
    report, made = run(notes=notes)
    assert found(made)["北京大学3校"] == [("北京", "LOC"), ("北京大学", "ORG"), ("大学3", "X")]
    assert report["noted"] == {
        "entities nested in others": 10, "entities that overlap others": 10
    }  # fmt: skip
    assert notes.lines[1] == (
        "in the documents read: entities nested in others 10, entities that overlap others 10"
    )
    assert "entities that overlap others" in (made.path / REPORT).read_text()


def test_few_rows_that_cannot_be_read_are_counted() -> None:
    rows = [{"text": f"Anna {n}", "entities": [[0, 4, "PER"]]} for n in range(200)]
    write("rows.jsonl", *rows, {"text": "Anna", "entities": [[0, 9, "PER"]]})
    report, _ = run()
    assert report["dropped"] == {"an entity outside its text": 1}
    assert report["train"] == 120


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"tokens": ["a"], "tags": ["X-PER"]}, "unknown tag: 'X-PER' is neither 'O' nor a label"),
        ({"tokens": ["a"], "tags": []}, "tokens and tags of unequal number: 1 and 0"),
        ({"text": "a b", "entities": [[0, 4, "X"]]}, "an entity outside its text: 'X' at [0, 4)"),
        ({"text": "a b", "entities": "X"}, "entities is not what the task needs"),
    ],
)  # fmt: skip
def test_what_a_run_would_refuse_is_found_by_check(row: Mapping[str, Any], says: str) -> None:
    write("rows.jsonl", *[row] * 20)
    with pytest.raises(RecipeError) as caught:
        load("r.yaml", check_files=True)
    assert "corpora.sources.rows.path: " in str(caught.value)
    assert f"rows.jsonl:1: {says}" in str(caught.value)


def test_rows_without_any_entity_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_checks, "ROWS", 5)  # so that no look sees all
    write("rows.jsonl", *({"text": f"no {n}", "entities": []} for n in range(10)))
    with pytest.raises(UserError, match=r"corpora\.sources: no rows have entities"):
        run()


def test_a_label_of_the_map_that_no_row_has_is_told() -> None:
    write("rows.jsonl", *({"text": f"Anna {n}", "entities": [[0, 4, "PER"]]} for n in range(10)))
    notes = Notes()
    run("finetune.label_map={PER: person, ORG: company}", notes=notes)
    assert (
        "warning: of the labelled documents none has the label 'company', which " in notes.lines[1]
    )


def test_a_source_without_the_columns_is_told_of_the_forms() -> None:
    write("rows.jsonl", {"text": "Anna", "label": "good"})
    with pytest.raises(RecipeError, match="needs rows with tokens and tags, or text and entities"):
        load("r.yaml", check_files=True)


@pytest.mark.parametrize("key", ["label: good", "label_map: {PER: person}"])
def test_the_label_of_a_row_is_refused(key: str) -> None:
    write("rows.jsonl", {"text": "Anna", "entities": []})
    with pytest.raises(
        RecipeError, match=r"sources\.rows\.label\w*: is about the label of a row, an"
    ):
        load("r.yaml", [f"corpora.sources.rows={{path: rows.jsonl, {key}}}"])


def test_examples_depend_on_the_map_and_trials_share_it() -> None:
    write("rows.jsonl", *({"text": f"Anna {n}", "entities": [[0, 4, "PER"]]} for n in range(10)))

    def examples(*overrides: str) -> Any:
        recipe = load("r.yaml", overrides)
        return recipe.corpora.examples(recipe)

    assert examples() == examples("finetune.max_length=64")
    assert examples() != examples("finetune.label_map={PER: person}")
    with pytest.raises(RecipeError, match=r"'finetune\.tags' is not tunable"):
        load("r.yaml", ["tune={space: {finetune.tags: {choice: [bare, prefixed]}}}"])
