"""What is learned of rows, with both heads."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file
from transformers import AutoModel

from cluster.errors import UserError
from tests.classifiers import save_classifier
from tests.entities import LABELS, ROWS, labelled_words, ner_task, row, save_ner
from tests.fakes import recorded_here
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.corpora.reading.readers import Document
from trainers.engine.loop import evaluate
from trainers.models.build import Start, remarks
from trainers.parallel.topology import Topology
from trainers.scoring.evaluation.figures import figures
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.ner.figures import keys
from trainers.tasks.ner.rows import EntityRows
from trainers.tasks.ner.spec import Ner
from trainers.tasks.ner.windows import NOWHERE
from trainers.tasks.predictor import load
from trainers.tasks.task import Objective

OTHER_HEAD = {"tags": "spans", "spans": "tags"}


@pytest.fixture(scope="module")
def tag_task(tmp_path_factory: pytest.TempPathFactory, characters: Any) -> Any:
    return ner_task(tmp_path_factory.mktemp("tags"), characters)


def taken(task: Any, *places: int) -> list[dict[str, Any]]:
    return task.rows("train").take(np.array(places or range(len(ROWS))))


def test_training_evaluation_and_endpoint_read_the_same_windows(task: Any, model: Path) -> None:
    predictor = load(model)
    encoded = predictor.encode([predictor.input_of(row) for row in ROWS])
    assert [one.windows for one in encoded] == [one["windows"] for one in taken(task)]
    assert [len(one.windows) for one in encoded[-3:]] == [1, 6, 8]
    assert [one.is_cut for one in encoded] == [False] * 6 + [True]


def test_windows_of_a_row_stay_together(task: Any) -> None:
    rows = taken(task, 5, 0)
    batch = task.collate(rows, [0, 1])
    assert batch["row"].tolist() == [0] * len(rows[0]["windows"]) + [1]
    assert batch["input_ids"].shape == batch["places"].shape == (len(batch["row"]), 16)
    assert batch["places"][-1].tolist()[:4] == [NOWHERE, 0, 1, 2]
    assert batch["bounds"].shape == (len(batch["row"]), 2)
    words = {(row, label) for row, label, *_ in batch["gold"].tolist()}
    assert words == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_its_folder_is_a_plain_transformers_model(task: Any, model: Path) -> None:
    from transformers import AutoModelForTokenClassification

    plain = AutoModelForTokenClassification.from_pretrained(model)
    assert [*plain.config.id2label.values()] == task.head.outputs
    assert plain.config.label2id == {name: n for n, name in enumerate(task.head.outputs)}


def test_it_starts_from_a_model_of_another_task_or_with_the_other_head(
    task: Any, characters: Any, tmp_path: Path
) -> None:
    """Also where the classifier's last layer has the same sizes."""
    other = ner_task(tmp_path, characters, head=OTHER_HEAD[task.settings.head])
    names = [f"label {number}" for number in range(len(task.head.outputs))]
    bases = {
        "head": save_classifier(tmp_path / "classifier", characters, labels=names),
        "last layer": save_ner(tmp_path / "other", other),
    }
    for part, base in bases.items():
        model = dataclasses.replace(task, start=Start(base=str(base))).model()
        before = AutoModel.from_pretrained(base).state_dict()
        for name, weight in model.base_model.state_dict().items():
            assert torch.equal(weight, before[name]), name
        head = load_file(base / "model.safetensors")["classifier.weight"]
        assert model.classifier.weight.shape == (len(names), 32)
        assert not torch.equal(model.classifier.weight, head)
        assert [*model.config.id2label.values()] == task.head.outputs
        assert remarks(model)[0].startswith(f"the {part} of {base} ")


def test_a_classifier_starts_from_it(model: Path) -> None:
    task = ClassifyTask(
        Classify(max_length=16, labels=["a", "b"]), None, Start(base=str(model)), str(model)
    )
    classifier = task.model()
    assert classifier.classifier.weight.shape == (2, 32)
    before = load_file(model / "model.safetensors")
    found = classifier.state_dict()
    kept = [name for name in found.keys() & before.keys() if not name.startswith("classifier")]
    assert len(kept) > 10
    assert all(torch.equal(found[name], before[name]) for name in kept)
    assert remarks(classifier)[0].startswith(f"the head of {model} was for another task")


class Alone:
    """What `evaluate` needs of an engine."""

    device = torch.device("cpu")

    def __init__(self, task: Any, model: Any):
        self.objective = Objective(model, task)

    def eval(self) -> None:
        self.objective.eval()

    def __call__(self, batch: Any) -> Any:
        return self.objective(batch)


def validated(task: Any, model: Path, size: int, monkeypatch: Any) -> dict[str, float]:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda _: None)
    settings = task.settings.model_copy(update={"micro_batch_size": size})
    engine = Alone(task, load(model).model)
    return evaluate(engine, task, settings, Topology.of(0, 1), task.rows("validation"))


def test_validation_is_what_evaluation_says(
    task: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any micro-batch; also where entities cannot be found, by their edges or behind a cut."""
    found = validated(task, model, 4, monkeypatch)
    assert found.keys() == {*task.settings.validation_metrics}
    assert validated(task, model, 1, monkeypatch) == pytest.approx(found, rel=1e-4)
    computed = figures(Ner, recorded_here(load(model), ROWS))
    assert computed["entities"] == sum(len(row["entities"]) for row in ROWS)
    assert sum(one["predicted"] for one in computed["per_label"].values()) > 10
    for name in task.settings.test_metrics:
        assert found[name] == pytest.approx(computed[name])


def test_a_perfect_model_has_an_f1_of_what_can_be_learned(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags leave out what is nested, and both what is behind the cut."""
    rows = taken(task)
    batch = task.collate(rows, range(len(rows)))
    counts = task._counts(perfect(task, batch), batch)
    learned = 10 if task.settings.head == "spans" else 9
    assert int(counts["gold"].sum()) == 11
    assert int(counts["hit"].sum()) == int(counts["predicted"].sum()) == learned
    metrics = task.metrics({**counts, "loss": torch.tensor(1.0), "targets": torch.tensor(2.0)})
    assert metrics["span_f1"] == pytest.approx(2 * learned / (learned + 11))
    assert metrics["loss"] == 0.5


def perfect(task: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs that say what `labels` or `spans` do."""
    windows, tokens = batch["input_ids"].shape
    outputs = torch.zeros(windows, tokens, len(task.head.outputs))
    if task.settings.head == "tags":
        tags = batch["labels"].clamp(min=0)
        return outputs.scatter(-1, tags[..., None], 20.0)
    # Each span has a dimension of its own, in which its first query and its last key meet.
    outputs[..., 128:] = -200.0
    for number, (window, label, first, last) in enumerate(batch["spans"].tolist()):
        pair = 62 - 2 * (number % 8)  # turned slowly
        outputs[window, first, pair] = outputs[window, last, 64 + pair] = 40.0
        outputs[window, first, 128 + label] = outputs[window, last, 130 + label] = -10.0
    return outputs


@given(labelled=labelled_words())
def test_tags_of_words_are_found_again_by_a_perfect_model(
    tag_task: Any, labelled: tuple[list[str], list[str]]
) -> None:
    """transformers#38818, #18111: from words to a text, tokens, windows, and back. Each entity is
    found where it is, or told: one without a token, or with an edge inside one."""
    rows, (tokens, tags) = EntityRows(), labelled
    read = Document("", None, "a:1", values={"tokens": tokens, "tags": tags})
    (document,) = rows.checked([read])
    if document.problem is not None:
        return
    document = rows.cleaned_document(document, Normalizer(Clean(), Counts()))
    made = {"text": document.text, "entities": document.values["entities"]}
    (encoded,), (windows,) = tag_task.encode([made]), tag_task._read([made])
    batch = tag_task.collate([encoded], [0])
    (answered,) = tag_task._decoded(perfect(tag_task, batch), batch)
    found = {
        (*windows.characters(one.first, one.last), tag_task.labels[one.label]) for one in answered
    }
    located = tag_task._located(made["entities"], windows)
    assert {one[:3] for one in answered} == {*located.learned}
    missed = keys(made["entities"]) - found
    assert len(missed) <= len(located.problems)


def test_the_loss_falls_to_nothing_for_a_perfect_model(task: Any) -> None:
    rows = taken(task)
    batch = task.collate(rows, range(len(rows)))
    assert float(task.head.loss(perfect(task, batch), batch)) < 1e-3


def test_in_training_there_are_no_counts(task: Any) -> None:
    model = task.model().train()
    loss, counts = task.loss(model, task.collate(taken(task, 0, 5), [0, 1]))
    loss.backward()
    assert counts == {}
    assert (
        task.targets(task.collate(taken(task, 4), [0]))
        == {"tags": 0, "spans": 2}[task.settings.head]
    )


def test_what_is_not_learned_is_counted(task: Any) -> None:
    expected = {
        "texts": 7,
        "entities": 11,
        "texts longer than what is read": 1,
        "entities behind what is read": 1,
    }
    if task.settings.head == "tags":
        expected["entities inside another or across its edge"] = 1
    assert task.unlearned() == expected


def test_an_edge_inside_a_token_is_learned_as_that_of_the_token(
    tmp_path: Path, tokenizer: Any
) -> None:
    task = ner_task(tmp_path, tokenizer, [row("今天天气很好", ("天天", "place"))])
    counted = task.unlearned()
    assert counted["entities with an edge inside a token"] == 1
    (encoded,) = taken(task, 0)
    assert [one.first for one in encoded["gold"]] == [NOWHERE], "no answer can be equal"
    assert any(label > 0 for label in encoded["labels"][0])


def test_rows_for_a_plan_are_as_long_as_there_can_be(task: Any) -> None:
    batch = task.collate(task.longest_rows(2), [0, 1])
    assert batch["input_ids"].shape == (2 * 8, 16)
    loss, _ = task.loss(task.model().train(), batch)
    assert loss.isfinite()


def test_finding_a_single_entity_is_better_than_guessing(task: Any) -> None:
    guess = task.guess(task.rows("validation"))
    assert guess.is_better_than({"span_f1": 0.0})
    assert not guess.is_better_than({"span_f1": 2 / 12})


def test_labels_of_the_recipe_have_its_order(tmp_path: Path, characters: Any) -> None:
    task = ner_task(tmp_path, characters, labels=["place", "other", "person"])
    assert task.labels == ["place", "other", "person"]
    assert taken(task, 1)[0]["gold"] == []
    assert {one.label for one in taken(task, 0)[0]["gold"]} == {0, 2}
    with pytest.raises(UserError, match=r"label 'place' is not in finetune\.labels \(person\)"):
        Ner(labels=["person"]).refuse_examples(task.examples)
    assert Ner().card(task.examples, {})["labels"] == [*LABELS]
