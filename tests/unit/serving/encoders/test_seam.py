"""Training, evaluation and the endpoint encode the same text to the same ids, and decode alike."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.classifiers import LABELS, MAX_LENGTH, save_classifier
from tests.fakes import TEXTS, Notes, published
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.privacy import KINDS
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Tokenizer
from trainers.corpora.examples.stage import rows_in
from trainers.corpora.tokens.pack import write_arrow
from trainers.corpora.tokens.tokenizer import encode as encode_documents
from trainers.corpora.tokens.tokenizer import train
from trainers.models.build import Start
from trainers.scoring.evaluation.score_rows import record_part
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask

CLEAN = Clean(boilerplate=True, mask=tuple(KINDS))
RAW = [
    "很好",
    "",
    "很\u200b好\u00ad吗",
    "two  spaces,\u3000full width：ＡＢＣ１２３",
    "打 13812345678 或写信到 a.b@c.com.cn",
    "读 [SEP] 写 [MASK][CLS] [PAD] <s></s>",
    "点击这里\n今天天气很好\n版权所有",
    "今天天气很好，我们去公园散步。" * 5000,
    "word " * 20_000,
    " \n" * 50_000 + "末尾",
    "a" * 100_000,
    "1 " * 50_000,
    "e\u0301\u0316" * 20_000,
    ("写信到 somebody@example.com " + "很好" * 3) * 3000,
]


def tokenizers() -> dict[str, Callable[[], Any]]:
    def trained(**keys: Any) -> Any:
        return train(TEXTS * 4, Tokenizer(vocabulary_size=500, **keys), max_length=64)

    def padding_is_the_end() -> Any:
        tokenizer = trained(algorithm="unigram")
        tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    return {
        "bpe": lambda: trained(algorithm="bpe"),
        "wordpiece": lambda: trained(algorithm="wordpiece", lowercase=True),
        "pad is eos": padding_is_the_end,
    }


@pytest.fixture(scope="module", params=tokenizers())
def its_tokenizer(request: pytest.FixtureRequest) -> Any:
    return tokenizers()[request.param]()


@pytest.fixture(scope="module")
def model(its_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("model"), its_tokenizer, CLEAN)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The rows that the stage of that name would have made of the raw texts."""
    storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
    files = {"labels.json": json.dumps(LABELS)}
    examples = published(storage, "examples/demo-examples-00", files)
    labels = [LABELS[number % len(LABELS)] for number in range(len(RAW))]
    ids, texts = [*map(str, range(len(RAW)))], [normalize(text, CLEAN) for text in RAW]
    table = pa.table({"id": ids, "text": texts, "label": labels})
    for split in ("train", "test"):
        write_arrow(table, examples.path / f"{split}.arrow")
    return examples


class Recorded:
    """A replica that remembers the ids of its requests."""

    def __init__(self, replica: Any):
        self.ids: list[Sequence[int]] = []
        encode = replica._predictor.encode

        def remember(inputs: Any) -> Any:
            encoded = encode(inputs)
            self.ids += [list(one.input_ids) for one in encoded]
            return encoded

        replica._predictor.encode = remember
        self.client = TestClient(replica.__serve_build_asgi_app__())

    def post(self, texts: list[str]) -> Any:
        answer = self.client.post("/v1/classify", json={"texts": texts})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]


def test_training_evaluation_and_endpoint_read_the_same_ids(
    model: Path, examples: Artifact, replica: Callable[..., Any]
) -> None:
    from trainers.tasks.predictor import load

    settings = Classify(max_length=MAX_LENGTH, base=str(model))
    task = ClassifyTask(settings, examples, Start(base=str(model)), str(model))
    trained = [list(row["input_ids"]) for row in task.rows("train").take(np.arange(len(RAW)))]
    rows = pa.ipc.open_stream((examples.path / "test.arrow").read_bytes()).read_all().to_pylist()
    predictor = load(model)
    evaluated = [
        list(one.input_ids) for one in predictor.encode([predictor.input_of(row) for row in rows])
    ]
    recorded = Recorded(replica(model))
    predictions = recorded.post(RAW)
    assert trained == evaluated == recorded.ids
    assert [len(ids) for ids in trained] == [one["tokens"] for one in predictions]
    assert sum(one["truncated"] for one in predictions) >= 6


def test_what_is_read_is_the_beginning_of_what_pretraining_would_read(
    model: Path, its_tokenizer: Any
) -> None:
    """Of whole texts, cleaned and tokenized; and names of special tokens are no special tokens."""
    from trainers.tasks.predictor import load

    for raw, one in zip(RAW, load(model).encode(RAW), strict=True):
        (whole,) = encode_documents(its_tokenizer.backend_tokenizer, [normalize(raw, CLEAN)])
        first, *inner, last = one.input_ids
        assert (first, last) == (its_tokenizer.cls_token_id, its_tokenizer.sep_token_id)
        assert inner == whole[: MAX_LENGTH - 2].tolist()
        assert one.is_cut == (len(whole) > MAX_LENGTH - 2)
        assert one.length in (None, len(whole) + 2)


def test_evaluation_and_endpoint_say_the_same(
    model: Path, examples: Artifact, replica: Callable[..., Any]
) -> None:
    from trainers.tasks.predictor import load

    part = {"first": 0, "rows": rows_in(examples, "test")}
    made = record_part(load(model), 0, part, Notes(), contextlib.nullcontext())
    records = made["records"]
    predictions = Recorded(replica(model)).post(RAW)
    assert [record["prediction"] for record in records] == [one["label"] for one in predictions]
    assert [record["score"] for record in records] == [
        one["probabilities"][one["label"]] for one in predictions
    ]
    assert [record["gold"] for record in records[:3]] == list(LABELS)
