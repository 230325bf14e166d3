"""Named entities by `head: spans`, from rows as CLUENER has them to answers about words."""

import itertools
import json
from pathlib import Path

import pytest

from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train

PERSONS = ["鲁迅", "叶老桂", "王五", "Anna", "李大钊"]
PLACES = ["北京", "浙江绍兴", "上海", "New York", "广州"]
TEXTS = [
    "{person}生于{place}。",
    "在{place}，{person}任教",
    "{person} 去了 {place} 见 {other}",
    "{other}、{person}都不在{place}",
]
RECIPE = """\
name: names
corpora:
  sources: {{rows: {{path: "{folder}/rows.jsonl"}}}}
  split: {{validation: 0.15, test: 0.15}}
  decontaminate: null
finetune:
  task: ner
  base: "{folder}/base"
  head: spans
  max_length: 24
  stride: 8
  batch_size: 16
  learning_rate: 3e-3
  epochs: 12
  evaluations: 2
  workers: 1
"""


def rows() -> list[dict[str, object]]:
    made = []
    for text, person, place, other in itertools.product(TEXTS, PERSONS, PLACES, PERSONS):
        if person == other or ("{other}" not in text and other != PERSONS[-1]):
            continue
        written = text.format(person=person, place=place, other=other)
        label: dict[str, dict[str, list[list[int]]]] = {"name": {}, "address": {}}
        for kind, entity in (("name", person), ("name", other), ("address", place)):
            if entity in written:
                first = written.index(entity)
                label[kind][entity] = [[first, first + len(entity) - 1]]
        made.append({"text": written, "label": label})
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, its rows, and a small model with random weights to begin with."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("names")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
    (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    settings = Tokenizer(algorithm="wordpiece", vocabulary_size=400)
    tokenizer = train([str(row["text"]) for row in rows()], settings, 24)
    config = BertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    BertForMaskedLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    (folder / "names.yaml").write_text(RECIPE.format(folder=folder), "utf-8")
    return folder


def test_spans_are_learned_and_scored_in_the_text_of_words(raymill_at_head, folder):
    place = ("--workspace", str(folder / "mill"))
    outcome = raymill_at_head("run", str(folder / "names.yaml"), *place, "--until", "evaluate")
    assert outcome.status == 0, outcome.stderr
    figures = {stage["stage"]: stage["metrics"] for stage in outcome.answer["stages"]}
    assert {*figures["finetune"]["unlearned"]} == {"texts", "entities"}, "all of it is learned"
    assert figures["evaluate"]["test"]["span_f1"] > 0.9

    words = ["在", "New York", "，", "Anna", "任教"]
    (folder / "in.conll").write_text("".join(f"{word}\tO\n" for word in words), "utf-8")
    out = folder / "out"
    given = ("score", "names", str(folder / "in.conll"), str(out), "--format", "jsonl")
    scored = raymill_at_head(*given, *place)
    assert scored.status == 0, scored.stderr
    found = json.loads((out / "part-000000.jsonl").read_text("utf-8"))
    text = found["text"]
    assert text == "在New York，Anna任教"
    answered = [
        (text[one["start"] : one["end"]], one["label"]) for one in found["prediction_entities"]
    ]
    assert answered == [("New York", "address"), ("Anna", "name")]
