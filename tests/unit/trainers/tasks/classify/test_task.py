from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from sklearn import metrics as reference

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.fakes import TEXTS, published
from trainers.corpora.tokens.pack import write_arrow
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.encoding import encode, pad

LABELS = ["差", "好", "平"]
COUNTS = {"差": {"train": 1}, "好": {"train": 2}}
TOLD = {"labels": COUNTS, "train": 3}


def made(
    folder: Path, tokenizer: Any, labels: pa.Array, told: dict[str, Any] = TOLD, **keys: Any
) -> ClassifyTask:
    tokenizer.save_pretrained(folder / "tokenizer")
    storage = Storage.at(str(folder))
    files = {"labels.json": '["好", "差"]'}
    examples = published(storage, "examples/demo-examples-00", files, metrics=told)
    write_arrow(pa.table({"text": TEXTS[:3], "label": labels}), examples.path / "train.arrow")
    return ClassifyTask(
        settings=Classify(labels=LABELS, max_length=8, dropout=0.25, label_smoothing=0.1, **keys),
        examples=examples,
        start=Start(shape=Shape(hidden_size=32, layers=1, heads=2, max_positions=64)),
        tokenizer_folder=str(folder / "tokenizer"),
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> ClassifyTask:
    return made(tmp_path_factory.mktemp("mill"), tokenizer, pa.array(["好", "差", "好"]))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> ClassifyTask:
    labels = pa.array([["好", "平"], [], ["差"]], pa.list_(pa.string()))
    return made(tmp_path_factory.mktemp("mill"), tokenizer, labels, multi_label=True)


def rows(task: ClassifyTask, *places: int) -> list[dict[str, Any]]:
    return task.rows("train").take(torch.tensor(places).numpy())


def test_padding_is_masked() -> None:
    batch = pad([[5, 6, 7], [5]], pad_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_rows_are_the_encoded_examples(task: ClassifyTask, tokenizer: Any) -> None:
    taken = rows(task, 2, 0)
    assert [row["label"] for row in taken] == [1, 1]
    expected = [one.input_ids for one in encode(tokenizer, [TEXTS[2], TEXTS[0]], 8)]
    assert [row["input_ids"] for row in taken] == expected
    batch = task.collate(taken, [0, 1])
    assert batch["labels"].tolist() == [1, 1]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert task.targets(batch) == 2


def test_the_model_knows_its_labels(task: ClassifyTask, several: ClassifyTask) -> None:
    config = task.model().config
    assert config.id2label == dict(enumerate(LABELS))
    assert config.label2id == {label: number for number, label in enumerate(LABELS)}
    assert config.classifier_dropout == 0.25
    assert config.problem_type == "single_label_classification"
    assert several.model().config.problem_type == "multi_label_classification"


@torch.no_grad()
def test_the_loss_is_a_sum_and_is_smoothed_in_training_alone(task: ClassifyTask) -> None:
    torch.manual_seed(0)
    model = task.model().eval()
    batch = task.collate(rows(task, 0, 1, 2), [0, 1, 2])
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    chances = logits.log_softmax(-1)
    plain = -sum(chances[row, label] for row, label in enumerate(batch["labels"]))
    loss, counts = task.loss(model, batch)
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)
    assert int(counts["hit"].sum()) == int((logits.argmax(-1) == batch["labels"]).sum())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    smoothed, in_training = task.loss(model.train(), batch)
    uniform = -chances.mean(-1).sum()
    assert float(smoothed) == pytest.approx(float(0.9 * plain + 0.1 * uniform), rel=1e-4)
    assert in_training == {}


@torch.no_grad()
def test_balanced_labels_weigh_by_how_rare_they_are(tmp_path: Path, tokenizer: Any) -> None:
    """As scikit-learn's `balanced`: texts / (labels * texts of the label)."""
    task = made(tmp_path, tokenizer, pa.array(["好", "差", "好"]), class_weights="balanced")
    model = task.model().eval()
    batch = task.collate(rows(task, 0, 1, 2), [0, 1, 2])
    assert task._weights is not None
    assert task._weights.tolist() == pytest.approx([4 / 3, 4 / 6, 4 / 3])  # unseen counts as one
    assert task.targets(batch) == pytest.approx(4 / 6 + 4 / 3 + 4 / 6)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], weight=task._weights)
    loss, _ = task.loss(model, batch)
    assert float(loss) / task.targets(batch) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "kind", "weights"),
    [
        ({}, pa.string(), [5 / 6, 5 / 6, 5 / 3]),
        ({"multi_label": True}, pa.list_(pa.string()), [1, 1, 3]),
    ],
)
def test_labels_that_are_as_frequent_by_repeating_weigh_the_same(
    tmp_path: Path, tokenizer: Any, keys: dict[str, Any], kind: pa.DataType, weights: list[float]
) -> None:
    repeated = {label: {"train": 2} for label in COUNTS}
    told = {"labels": COUNTS, "balanced": repeated, "train": 4}
    labels = pa.array([None] * 3, kind)
    task = made(tmp_path, tokenizer, labels, told, class_weights="balanced", **keys)
    assert task._weights is not None
    assert task._weights.tolist() == pytest.approx(weights)


@torch.no_grad()
def test_several_labels_are_binary_questions(several: ClassifyTask) -> None:
    model = several.model().eval()
    batch = several.collate(rows(several, 0, 1, 2), [0, 1, 2])
    assert batch["labels"].tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert several.targets(batch) == 3
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["labels"])
    loss, counts = several.loss(model, batch)
    assert float(loss) / 3 == pytest.approx(float(bce), rel=1e-5)
    assert counts["gold"].tolist() == [1, 1, 1]


def test_the_threshold_is_the_best_on_validation(several: ClassifyTask) -> None:
    logits = torch.tensor([[-1.5, 1.0, 1.0], [-3.0, -3.0, -3.0], [-0.7, -3.0, -3.0]])
    gold = torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 0, 0]])

    class Fixed(torch.nn.Module):
        def forward(self, **_: Any) -> Any:
            return type("Output", (), {"logits": logits})

    batch = {"input_ids": gold, "attention_mask": gold, "labels": gold}
    loss, counts = several.loss(Fixed().eval(), batch)  # type: ignore[arg-type]
    found = several.metrics({**counts, "loss": loss, "targets": torch.tensor(3)})
    # sigmoid(-1.5) = 0.18, sigmoid(-0.7) = 0.33: only between them all is right.
    assert found["threshold"] == 0.3, "of those that are as good, the nearest to a half"
    assert (found["micro_f1"], found["macro_f1"], found["accuracy"]) == (1.0, 1.0, 1.0)


def test_validation_has_the_f1_of_scikit_learn(task: ClassifyTask) -> None:
    gold, given = torch.tensor([0, 1, 1, 2, 2, 2]), torch.tensor([0, 1, 2, 2, 2, 0])
    counts = {
        "hit": torch.bincount(gold[gold == given], minlength=3)[None],
        "predicted": torch.bincount(given, minlength=3)[None],
        "all_right": (gold == given).sum()[None],
        "texts": torch.tensor(6),
        "gold": torch.bincount(gold, minlength=3),
        "loss": torch.tensor(3.0),
        "targets": torch.tensor(4.0),
    }
    found = task.metrics(counts)
    assert found["loss"] == 0.75
    assert found["accuracy"] == pytest.approx(4 / 6)
    expected = reference.f1_score(gold, given, average="macro")
    assert found["macro_f1"] == pytest.approx(expected)


def test_labels_that_the_recipe_does_not_have_are_refused(tmp_path: Path) -> None:
    examples = published(
        Storage.at(str(tmp_path)), "examples/demo-examples-00", {"labels.json": '["a", "b"]'}
    )
    with pytest.raises(UserError, match=r"label 'b' is not in finetune\.labels \(a, c\)"):
        Classify(labels=["a", "c"]).refuse_examples(examples)
