"""Rows of words, in every kind of file, are scored as the text that training makes of them."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from tests.fakes import Notes
from trainers.scoring.batch.job import make_plan, source_of
from trainers.scoring.batch.part import score_part
from trainers.scoring.model import model_in_folder
from trainers.tasks.ner.rows import Marked, of_words
from trainers.tasks.ner.spec import Ner
from trainers.tasks.predictor import CPU, load

SENTENCES = [
    (["鲁迅", "在", "北京", "。"], ["nr", "p", "ns", "w"]),
    (["Anna", "met", "Bob", "in", "New", "York"], ["nr", "v", "nr", "p", "ns", "ns"]),
    (["很", "好"], ["d", "a"]),
]
TEXTS = ["鲁迅在北京。", "Anna met Bob in New York", "很好"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scored(model: Path, path: str, *overrides: str) -> list[dict[str, Any]]:
    """The rows of OUT."""
    found = model_in_folder(str(model))
    assert found is not None
    source = source_of(path, overrides, Ner)
    made = make_plan(found, source, "out", "parquet", "prediction_", lambda line: None)
    predictor = found.load(CPU)
    for number, part in enumerate(made.parts):
        score_part(made.job, predictor, number, asdict(part), Notes(), contextlib.nullcontext())
    return pq.read_table("out").to_pylist()


def write(*rows: Mapping[str, Any]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    Path("in.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_conll(name: str) -> None:
    sentences = (
        "".join(f"{token} B-{tag}\n" for token, tag in zip(*one, strict=True)) for one in SENTENCES
    )
    Path(name).write_text("\n".join(sentences), "utf-8")


def write_tagged() -> None:
    lines = (
        " ".join(f"{token}/{tag}" for token, tag in zip(*one, strict=True)) for one in SENTENCES
    )
    Path("in.txt").write_text("\n".join(lines), "utf-8")


@pytest.mark.parametrize("kind", ["text", "tokens", "words", "parquet", "conll", "tagged"])
def test_words_are_answered_as_their_text(model: Path, kind: str) -> None:
    tokens = [{"id": n, "tokens": one} for n, (one, _) in enumerate(SENTENCES)]
    path, overrides = "in.jsonl", list[str]()
    match kind:
        case "text":
            write(*({"text": text, "tokens": ["other"]} for text in TEXTS))
        case "tokens":
            write(*tokens)
        case "words":
            write(*({"words": one, "tags": tags} for one, tags in SENTENCES))
            overrides = ["columns.tokens=words"]
        case "parquet":
            path = "in.parquet"
            pq.write_table(pa.Table.from_pylist(tokens), path)
        case "conll":
            path, overrides = "in.txt", ["format=conll"]
            write_conll(path)
        case "tagged":
            path, overrides = "in.txt", ["tagged=true"]
            write_tagged()
    rows = scored(model, path, *overrides)
    assert [row["text"] for row in rows] == TEXTS
    expected = load(model).predict(TEXTS)
    assert sum(len(one.entities) for one in expected) > 3
    for row, one in zip(rows, expected, strict=True):
        assert row["prediction_tokens"] == one.tokens
        for found, entity in zip(row["prediction_entities"], one.entities, strict=True):
            assert row["text"][found["start"] : found["end"]] == found["text"] == entity.text
    if kind in ("tokens", "parquet"):
        assert [row["id"] for row in rows] == [0, 1, 2]


def test_the_text_is_that_of_training(model: Path) -> None:
    for tokens in (["今", "", "天", "9"], ["New York", "", " ", "is"], ["\u200b", "😀", "北京"]):
        write({"tokens": tokens})
        marked = of_words(tokens, ["O"] * len(tokens), "prefixed")
        assert isinstance(marked, Marked)
        (row,) = scored(model, "in.jsonl")
        assert row["text"] == marked.text
        for path in Path("out").rglob("*"):
            path.unlink() if path.is_file() else None


def test_rows_without_words_are_aside(model: Path) -> None:
    write({"tokens": ["fine"]}, {"tokens": "a b"}, {"tokens": [1]}, {"tokens": ["a"], "text": "a"})
    assert [row["text"] for row in scored(model, "in.jsonl", "columns.tokens=tokens")] == ["fine"]
    aside = [*map(json.loads, Path("out/_errors/part-000000.jsonl").read_text().splitlines())]
    assert [one["reason"] for one in aside] == [
        "tokens are no list of words",
        "tokens are no list of words",
        "a text beside the tokens of which one is made",
    ]


def test_columns_of_no_form_are_refused(model: Path) -> None:
    write({"tokens": ["fine"]})
    for override, told in (
        ("columns={tokens: tokens, text: text}", "columns: the model reads text, or tokens, one"),
        ("columns.tags=x", "columns.tags: no input of the model, which reads text, or tokens"),
    ):
        with pytest.raises(UserError, match=told):
            scored(model, "in.jsonl", override)
