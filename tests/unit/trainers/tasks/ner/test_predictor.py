"""Entities in the text as it was sent."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from serving.config import Serve
from serving.encoders.api import http_api
from tests.entities import ROWS, ner_task, save_ner
from tests.fakes import ReplicaHere, recorded_here
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize
from trainers.tasks.ner.predictor import NerPredictor
from trainers.tasks.ner.spec import Ner
from trainers.tasks.predictor import load

CLEAN = Clean(boilerplate=True, mask=("email", "phone"))
RAW = [
    "  鲁\u200b迅１８８１年 \u3000 生于浙江绍兴。",
    "",
    " \n ",
    "点击这里\n鲁迅在北京\n版权所有",
    "写信到 a.b@c.com.cn 或 ｈｅｌｌｏ　Ａｎｎａ",
    "e\u0301\u0316 Anna 👨‍👩‍👧‍👦 ㍿",
    "鲁迅 \u200b在\u200b北京" * 3000,
    " \n" * 50_000 + "末尾鲁迅",
]
REPLACED = RAW[4:6]
"""An address, and characters that become several or fewer."""


@pytest.fixture(scope="module")
def predictor(task: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(save_ner(tmp_path_factory.mktemp("cleaning"), task, CLEAN))


def test_entities_are_the_callers_own_characters(predictor: Any) -> None:
    """Cleaned as the training data were, they are what is found in the clean text."""
    answers = predictor.predict(RAW)
    of_clean = predictor.predict([normalize(text, CLEAN) for text in RAW])
    assert sum(len(one.entities) for one in answers) > 20
    for raw, answer, clean in zip(RAW, answers, of_clean, strict=True):
        for one in answer.entities:
            assert raw[one.start : one.end] == one.text != ""
            assert 0 < one.score <= 1
        for one, expected in zip(answer.entities, clean.entities, strict=True):
            assert (one.label, one.score) == (expected.label, pytest.approx(expected.score))
            # What was replaced as a whole stands for any part of what replaced it.
            assert expected.text in normalize(one.text, CLEAN)
            if raw not in REPLACED:
                assert expected.text == normalize(one.text, CLEAN)
        assert (answer.tokens, answer.truncated) == (clean.tokens, clean.truncated)
    assert [one.truncated for one in answers] == [False] * 6 + [True, False]


def test_answers_do_not_depend_on_the_other_texts(predictor: Any) -> None:
    texts = [row["text"] for row in ROWS]
    for text, together in zip(texts, predictor.predict(texts), strict=True):
        (alone,) = predictor.predict([text])
        assert [one.model_dump(exclude={"score"}) for one in alone.entities] == [
            one.model_dump(exclude={"score"}) for one in together.entities
        ]
    assert predictor.predict([]) == []


def test_records_have_the_probability_of_the_least_certain_decision(predictor: Any) -> None:
    outputs = predictor.predict([row["text"] for row in ROWS])
    for row, record, output in zip(ROWS, recorded_here(predictor, ROWS), outputs, strict=True):
        assert record["gold"] == row["entities"]
        assert record["score"] == pytest.approx(predictor.score(output)), "as a column has it"
        if not row["text"]:
            assert record["score"] is None
            continue
        scores = [one["score"] for one in record["prediction"]]
        assert 0 < record["score"] <= min(scores, default=1.0)
        places = [(one["start"], one["end"]) for one in record["prediction"]]
        assert places == sorted(places)


@pytest.mark.parametrize("head", ["tags", "spans"])
def test_where_no_entity_is_found_the_model_says_how_certain_it_is(
    head: str, tmp_path: Path, tokenizer: Any
) -> None:
    """A model that missed all entities of a text is not certain because of that."""
    task = ner_task(tmp_path / "task", tokenizer, head=head)
    predictor = load(save_ner(tmp_path / "model", task))
    with torch.no_grad():
        predictor.model.classifier.weight.zero_()
        outside = predictor.model.classifier.bias
        outside.copy_(
            torch.tensor([1.0] + [0.0] * 4 if head == "tags" else [0.0] * 128 + [-0.5] * 4)
        )
    (output,) = predictor.predict(["鲁迅在北京"])
    assert output.entities == []
    of_outside = math.e / (math.e + 4) if head == "tags" else math.e / (math.e + 1)
    assert predictor.score(output) == pytest.approx(of_outside, abs=1e-6)
    assert "certainty" not in output.model_dump_json()


def test_the_endpoint_answers_as_evaluation_does(predictor: Any) -> None:
    client = TestClient(http_api(ReplicaHere(predictor), NerPredictor, Ner.route, Serve()))
    answer = client.post("/v1/ner", json=Ner.request(ROWS))
    assert answer.status_code == 200, answer.text
    for row, found, record in zip(
        ROWS, answer.json()["predictions"], recorded_here(predictor, ROWS), strict=True
    ):
        entities = found["entities"]
        assert [one["text"] for one in entities] == [
            row["text"][one["start"] : one["end"]] for one in entities
        ]
        assert [{k: v for k, v in one.items() if k != "text"} for one in entities] == record[
            "prediction"
        ]
    assert client.post("/v1/ner", json=Ner.request([Ner.sample])).status_code == 200
    assert client.post("/v1/ner", json={"texts": [3]}).status_code == 422
    half = client.post("/v1/ner", content=br'{"texts": ["\ud800"]}',
                       headers={"Content-Type": "application/json"})  # fmt: skip
    assert half.status_code == 422
    schema = client.get("/openapi.json").json()["components"]["schemas"]
    assert schema["Entities"]["required"] == ["tokens", "truncated", "entities"]
    assert schema["ScoredEntity"]["required"] == ["start", "end", "text", "label", "score"]


def test_it_knows_its_labels(predictor: Any) -> None:
    assert predictor.describe() == {"labels": ["person", "place"]}
