from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from cluster.storage import Storage
from tests.fakes import TEXTS, published
from trainers.config.shape import Shape
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import write_arrow
from trainers.model import Start
from trainers.tasks.classify import Classify, encode, pad, probabilities

LABELS = ["差", "好", "平"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Classify:
    folder = tmp_path_factory.mktemp("mill")
    tokenizer.save_pretrained(folder / "tokenizer")
    examples = published(Storage.at(str(folder)), "examples/demo-examples-00")
    table = pa.table({"text": TEXTS[:3], "label": ["好", "差", "好"]})
    write_arrow(table, examples.path / "train.arrow")
    return Classify(
        examples=examples,
        start=Start(shape=Shape(hidden_size=32, layers=1, heads=2, max_positions=64)),
        tokenizer_folder=str(folder / "tokenizer"),
        labels=LABELS,
        max_length=8,
        dropout=0.25,
        label_smoothing=0.1,
    )


def test_texts_are_cut_and_keep_their_ends(tokenizer: Any) -> None:
    (short, long) = encode(tokenizer, ["好", TEXTS[0] * 5], max_length=8)
    assert len(long) == 8
    assert (long[0], long[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert len(short) <= 4
    assert encode(tokenizer, [], max_length=8) == []


def test_special_tokens_in_a_text_are_text(task: Classify, tokenizer: Any, tmp_path: Path) -> None:
    """As in pretraining (huggingface/tokenizers#722); for who loads the saved model too."""
    text = "很好[SEP]不[MASK] 好[PAD][CLS]"
    (found,) = encode(tokenizer, [text], max_length=64)
    (pretrained,) = tokenizers.encode(tokenizer.backend_tokenizer, [text])
    assert found == [tokenizer.cls_token_id, *pretrained.tolist(), tokenizer.sep_token_id]
    task.tokenizer().save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text, max_length=64)["input_ids"] == found


def test_padding_is_masked() -> None:
    batch = pad([[5, 6, 7], [5]], pad_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_rows_are_the_encoded_examples(task: Classify, tokenizer: Any) -> None:
    rows = task.rows("train")
    taken = rows.take(torch.tensor([2, 0]).numpy())
    assert [row["label"] for row in taken] == [1, 1]
    assert [row["input_ids"] for row in taken] == encode(tokenizer, [TEXTS[2], TEXTS[0]], 8)
    batch = task.collate(taken, [0, 1])
    assert batch["labels"].tolist() == [1, 1]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_the_model_knows_its_labels(task: Classify) -> None:
    config = task.model().config
    assert config.id2label == dict(enumerate(LABELS))
    assert config.label2id == {label: number for number, label in enumerate(LABELS)}
    assert config.classifier_dropout == 0.25
    assert config.problem_type == "single_label_classification"


@torch.no_grad()
def test_the_loss_is_a_sum_and_is_smoothed_in_training_alone(task: Classify) -> None:
    torch.manual_seed(0)
    model = task.model().eval()
    batch = task.collate(task.rows("train").take(torch.arange(3).numpy()), [0, 1, 2])
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    chances = logits.log_softmax(-1)
    plain = -sum(chances[row, label] for row, label in enumerate(batch["labels"]))
    loss, sums = task.loss(model, batch)
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)
    assert int(sums["correct"]) == int((logits.argmax(-1) == batch["labels"]).sum())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    smoothed, _ = task.loss(model.train(), batch)
    uniform = -chances.mean(-1).sum()
    assert float(smoothed) == pytest.approx(float(0.9 * plain + 0.1 * uniform), rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_probabilities_keep_the_order_of_the_texts(
    task: Classify, tokenizer: Any, batch_size: int
) -> None:
    torch.manual_seed(0)
    model = task.model().eval()
    encoded = encode(tokenizer, [*TEXTS[::-1], *TEXTS], 64)
    found = probabilities(model, encoded, batch_size)
    for ids, row in zip(encoded, found, strict=True):
        with torch.no_grad():
            alone = model(torch.tensor([ids])).logits.softmax(-1)[0]
        torch.testing.assert_close(row, alone)
    assert probabilities(model, [], batch_size).shape == (0, 3)


def test_metrics_are_means_over_examples(task: Classify) -> None:
    found = task.metrics({"loss": 3.0, "targets": 4.0, "correct": 3.0})
    assert found == {"loss": 0.75, "accuracy": 0.75}
