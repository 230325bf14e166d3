"""A labelled file becomes rows as examples are; nothing is lost without being counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.recipe.loading import load_keys
from cluster.store.storage import Storage
from tests.fakes import published
from tests.tagging import Tag
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.sources import content_hash
from trainers.corpora.tokens.pack import write_arrow
from trainers.scoring.evaluation import labelled
from trainers.scoring.evaluation.labelled import (
    DROPPED,
    inputs,
    lines,
    reading,
    report,
    rows,
    unknown_labels,
    with_label_map,
)
from trainers.tasks.classify.spec import Classify
from trainers.tasks.ner.spec import Ner


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content_hash.cache_clear()


def source(*overrides: str, path: str = "data.jsonl") -> Source:
    made: Source = load_keys(Source, overrides, {"path": path})
    return made


def written(*documents: dict[str, Any], path: str = "data.jsonl") -> None:
    text = "\n".join(json.dumps(one, ensure_ascii=False) for one in documents)
    Path(path).write_text(text, "utf-8")


def test_rows_are_cleaned_and_each_text_counts_once() -> None:
    written(
        {"text": "很好，非常满意！", "label": "good"},
        {"text": "ｖｅｒｙ ｂａｄ", "label": "bad"},
        {"text": "very bad", "label": "bad"},
        {"text": "both ways", "label": "good"},
        {"text": "both ways", "label": "bad"},
        {"text": "?", "label": "bad"},
        {"text": "no label here", "label": None},
        {"text": "nor here"},
    )
    found, counts = rows(source(), Classify(), Clean())
    assert [(row["id"], row["text"], row["label"]) for row in found] == [
        ("1", "很好,非常满意!", "good"),
        ("2", "very bad", "bad"),
    ]
    assert counts.read == 8
    assert dict(counts.dropped) == {
        "exact duplicate": 2,
        "two labels": 1,
        "too short": 1,
        "no label in column 'label'": 1,
        "no column 'label'": 1,
    }


def test_columns_are_named_as_in_a_recipe_and_slices_are_kept() -> None:
    Path("data.csv").write_text("review,stars,shop\ngut gemacht,5,x\nnicht so,1,y\nmittel,3,x\n")
    settings = ["columns={text: review, label: stars}", "slices=[shop]"]
    settings.append("label_map={1: bad, 3: null, 5: good}")
    found, counts = rows(source(*settings, path="data.csv"), Classify(), Clean())
    assert [(row["label"], row["shop"]) for row in found] == [("good", "x"), ("bad", "y")]
    assert dict(counts.dropped) == {"label mapped to null": 1}


def test_a_row_without_a_value_to_slice_by_stays_and_is_told() -> None:
    written({"text": "one text", "label": "a", "shop": "x"}, {"text": "another one", "label": "b"})
    found, counts = rows(source("slices=[shop]"), Classify(), Clean())
    assert [row["shop"] for row in found] == ["x", None]
    assert counts.noted == {"rows without a value of shop": 1}


def test_rows_that_are_dropped_are_kept_aside_with_their_places_and_reasons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = ["one text", "?", "one text", "both", "both", "fine", "third"]
    labels = ["a", "b", "a", "a", "b", None, "x"]
    documents = [{"text": text, "label": of} for text, of in zip(texts, labels, strict=True)]
    written(*documents)
    Path("data.jsonl").write_text(Path("data.jsonl").read_text() + "\n{broken")
    settings = ["label_map={a: a, b: b, x: null}"]
    _, counts = rows(source(*settings), Classify(), Clean())
    reasons = {(Path(one["where"]).name, one["reason"]) for one in counts.aside}
    assert reasons == {
        ("data.jsonl:2", "too short"),
        ("data.jsonl:3", "exact duplicate"),
        ("data.jsonl:4", "two labels"),
        ("data.jsonl:5", "exact duplicate"),
        ("data.jsonl:6", "no label in column 'label'"),
        ("data.jsonl:7", "label mapped to null"),
        ("data.jsonl:8", "not JSON"),
    }
    assert counts.dropped.total() == len(counts.aside) == 7
    counts.write(tmp_path)
    lines = (tmp_path / DROPPED).read_text("utf-8").splitlines()
    assert [*map(json.loads, lines)] == counts.aside
    monkeypatch.setattr(labelled, "MOST_DROPPED", 2)
    _, bounded = rows(source(*settings), Classify(), Clean())
    assert (len(bounded.aside), bounded.dropped) == (2, counts.dropped)


def test_a_row_may_have_several_labels_where_the_model_gives_several() -> None:
    written({"text": "one two", "label": ["b", "a"]}, {"text": "none of it", "label": []})
    found, _ = rows(source(), Classify(multi_label=True), Clean())
    assert [row["label"] for row in found] == [["a", "b"], []]
    with pytest.raises(UserError, match=r"data\.jsonl:1: the label is a list"):
        rows(source(), Classify(), Clean())


def test_a_task_has_its_own_columns() -> None:
    written({"tokens": ["Anna", "ｓings"], "tags": ["NAME", "O"], "page": 4})
    tag = Tag(base="some/model")
    (row,), _ = rows(source("slices=[page]"), tag, Clean())
    assert (row["tokens"], row["tags"], row["page"]) == (["Anna", "sings"], ["NAME", "O"], "4")
    assert "label" not in row
    with pytest.raises(UserError, match="--set label_map: is about the label of a row"):
        rows(source("label_map={a: b}"), tag, Clean())


def test_places_of_entities_are_places_in_the_text_that_was_cleaned() -> None:
    written({"text": "ｂｙ\u200b  Ａｎｎａ Lee!", "entities": [[5, 13, "PER"]]})
    (row,), _ = rows(source(), Ner(base="some/model"), Clean())
    (entity,) = row["entities"]
    assert row["text"] == "by Anna Lee!"
    assert row["text"][entity["start"] : entity["end"]] == "Anna Lee"


@pytest.mark.parametrize(
    ("documents", "overrides", "says"),
    [
        (
            [{"text": "a text", "stars": 1}],
            [],
            r"--data data\.jsonl: a row needs text and label, and the file has columns text, "
            r"stars; name another by --set columns\.label=COLUMN",
        ),
        (
            [{"review": "a text", "label": "x"}],
            [],
            r"no row to evaluate; of 1 read, dropped: no column 'text' 1, such as "
            r".*data\.jsonl:1: no column 'text': set as `columns\.text`; columns: review, label",
        ),
        (
            [{"text": "a text", "label": None}] * 3,
            [],
            r"no row to evaluate; of 3 read, dropped: no label in column 'label' 3",
        ),
        (
            [{"text": "a text", "label": 3}],
            ["label_map={1: bad}"],
            r"data\.jsonl:1: label '3' is not in --data\.label_map; known: 1",
        ),
        (
            [{"text": "a text", "label": "x"}],
            ["columns.label=null", "weak_labels={functions: {x: {label: x, lexicon: [a]}}}"],
            "--set weak_labels: labels of rules",
        ),
        ([{"text": "a text", "label": "x"}], ["path=gone.jsonl"], "--data: .*gone.jsonl"),
        (
            [{"text": "a text", "label": "x"}],
            ["columns.lable=x"],
            "--set columns.lable: the model has no such column, it has group, label, text; did "
            "you mean 'label'",
        ),
        (
            [{"text": "a text", "label": "x", "shop": "A"}],
            ["slices=[shopp]"],
            r"--set slices: data.jsonl: no column 'shopp': set as `slices`; columns: text, label, "
            r"shop; did you mean 'shop'\?",
        ),
        ([{"text": "a text", "label": "x"}], ["slices=[id]"], "rows have a column 'id' by"),
        ([{"text": "a text"}], ["colums.text=x"], "--set colums: unknown key .*mean 'columns'"),
        ([{"text": "a text"}], ["repeat=x"], "--set repeat: expected a whole number"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_refused(
    documents: list[dict[str, Any]], overrides: list[str], says: str
) -> None:
    written(*documents)
    with pytest.raises(UserError, match=says):
        rows(source(*overrides), Classify(), Clean())


def test_labels_that_the_model_does_not_know_are_counted() -> None:
    task, ner = Classify(), Ner(base="some/model")
    found_rows = [{"label": label} for label in ("good", "bad", "bad", "so-so")]
    found = unknown_labels(found_rows, task, ["good", "great"], source(), "model/x")
    assert found == {"bad": 2, "so-so": 1}
    assert unknown_labels(found_rows, task, None, source(), "model/x") == {}, "has no labels"
    with pytest.raises(
        UserError, match=r"its labels are bad 2, good 1, so-so 1, and model/x knows"
    ):
        unknown_labels(found_rows, task, ["1", "2"], source(), "model/x")
    with pytest.raises(UserError, match=r"none of its 2 rows has a label that model/x knows, LOC"):
        unknown_labels([{"entities": []}] * 2, ner, ["LOC"], source(), "model/x")
    several = Classify(multi_label=True)
    assert unknown_labels([{"label": ["a", "b"]}], several, ["a"], source(), "m") == {"b": 1}
    entities = [
        {"entities": [{"start": 0, "end": 2, "label": label} for label in labels]}
        for labels in ((), ("PER",), ("LOC",))
    ]
    assert unknown_labels(entities, ner, ["LOC"], source(), "model/x") == {"PER": 1}
    with pytest.raises(UserError, match=r"labels are PER 1, and model/x knows LOC; say which is"):
        unknown_labels(entities[:2], ner, ["LOC"], source(), "model/x")


def test_labels_of_entities_are_named_as_those_of_rows_are() -> None:
    written({"text": "Anna of Bonn", "entities": [[0, 4, "PER"], [8, 12, "GPE"]]})
    trained = Ner(base="some/model", label_map={"nr": "person"})
    given = source("label_map={PER: person, GPE: null}")
    of_file, settings = with_label_map(given, trained)
    (row,), counts = rows(of_file, settings.for_labels(["person"]), Clean())
    assert [one["label"] for one in row["entities"]] == ["person"]
    assert counts.noted == {"entities whose label is not in finetune.label_map": 1}
    for task in (Classify(), Tag(base="some/model")):
        assert with_label_map(given, task) == (given, task)


def test_the_form_that_is_nearest_says_what_is_lacking() -> None:
    written({"sentence": "Anna", "spans": [[0, 4, "PER"]]})
    with pytest.raises(UserError, match=r"by --set columns\.entities=COLUMN"):
        rows(source("columns={text: sentence}"), Ner(base="some/model"), Clean())
    with pytest.raises(UserError, match=r"by --set columns\.tags=COLUMN"):
        rows(source("columns={tokens: sentence}"), Ner(base="some/model"), Clean())


def test_rows_that_the_model_was_trained_on_are_told(tmp_path: Path) -> None:
    written({"text": "seen before", "label": "a"}, {"text": "quite new", "label": "b"})
    examples = published(Storage.at(str(tmp_path / "mill")), "examples/demo-examples-00")
    trained = pa.table({"id": [f"{text_key('seen before'):016x}"]})
    write_arrow(trained, examples.path / "train.arrow")
    found, counts = rows(source(), Classify(), Clean())
    told = report(found, counts, {"b": 1}, examples)
    assert told == {
        "read": 2,
        "kept": 2,
        "dropped": {},
        "noted": {},
        "unknown_labels": {"b": 1},
        "trained_on": 1,
    }
    assert [*lines(told, "model/x")] == [
        "2 rows read, 2 kept; dropped: none",
        "warning: labels that model/x does not know, so that it has these rows wrong: b 1",
        "warning: 1 of the rows are among those that model/x was trained on",
    ]
    assert report(found, counts, {}, None)["trained_on"] == 0


def test_an_evaluation_follows_from_the_content_and_how_it_is_read() -> None:
    written({"text": "a text", "label": "a"})
    before = inputs(source())
    assert inputs(source("columns.label=label")) != before
    assert inputs(source("slices=[shop]")) != before
    Path("elsewhere").mkdir()
    Path("data.jsonl").rename("elsewhere/data.jsonl")
    assert inputs(source(path="elsewhere/data.jsonl")) == before
    written({"text": "a text", "label": "b"}, path="elsewhere/data.jsonl")
    assert inputs(source(path="./elsewhere/data.jsonl")) != before


def test_how_a_task_reads_rows_can_be_said_of_a_file() -> None:
    """Tags of a file need not be written as those of training were."""
    written({"tokens": ["Anna", "sings"], "tags": ["PER", "O"]})
    trained = Ner.model_validate({"task": "ner", "base": "some/model"})
    with pytest.raises(UserError, match="no row to evaluate"):
        rows(source(), reading(trained, []), Clean())
    ((row,), _) = rows(source(), reading(trained, ["finetune.tags=bare"]), Clean())
    assert [one["label"] for one in row["entities"]] == ["PER"]
    assert reading(trained, []) is trained


def test_what_a_model_learned_cannot_be_said_of_a_file() -> None:
    trained = Ner.model_validate({"task": "ner", "base": "some/model"})
    with pytest.raises(UserError, match=r"--set finetune\.head: .* ner has finetune\.label_map, "):
        reading(trained, ["finetune.head=spans"])
    with pytest.raises(UserError, match=r"finetune\.tags: must be .*found 'bair'"):
        reading(trained, ["finetune.tags=bair"])
