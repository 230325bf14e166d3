"""What an endpoint answers is what plain Transformers computes from the same folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from serving.encoders import engine
from serving.encoders.engine import Classifier
from tests.fakes import TEXTS
from trainers.models.build import Start, build
from trainers.models.card import CARD
from trainers.models.shape import Shape

LABELS = ["差", "好", "平"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    shape = Shape(
        architecture="modernbert",
        hidden_size=32,
        layers=1,
        heads=2,
        max_positions=64,
        config={"classifier_pooling": "mean"},
    )
    model: Any = build(
        Start(shape=shape),
        "classify",
        tokenizer,
        num_labels=3,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        classifier_dropout=0.5,
    )
    torch.nn.init.normal_(model.classifier.weight, std=2.0)  # so that answers differ
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {"id": "model/demo-finetune-00", "labels": LABELS, "max_length": 6}
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    return folder


@torch.no_grad()
def test_probabilities_are_those_of_plain_transformers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FORWARD_SIZE", 4)
    classifier = Classifier(folder)
    texts = [text[:cut] for text in TEXTS for cut in (1, 5, 30)]
    found = classifier.predict(classifier.encode(texts))
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len({prediction.label for prediction in found}) > 1
    for text, prediction in zip(texts, found, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=6, return_tensors="pt")
        logits = plain(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[0]
        expected = logits.softmax(-1).tolist()
        assert list(prediction.probabilities) == LABELS
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-5)
        assert prediction.label == plain.config.id2label[int(logits.argmax())]


def test_no_texts_get_no_answers(folder: Path) -> None:
    classifier = Classifier(folder)
    assert classifier.predict(classifier.encode([])) == []


def test_an_empty_text_gets_an_answer(folder: Path) -> None:
    classifier = Classifier(folder)
    (found,) = classifier.predict(classifier.encode([""]))
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_the_card_names_the_model(folder: Path) -> None:
    classifier = Classifier(folder)
    assert classifier.labels == LABELS
