"""A task that only these tests know goes all the way: nothing but its own file knows of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from cluster.errors import RecipeError
from cluster.lazy_import import lazy_import
from cluster.recipe import loading
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.config import Serve
from serving.encoders.api import http_api
from serving.rollout.first_request import first_request
from serving.rollout.promote import refuse_worse
from tests.fakes import Notes, ReplicaHere, published, scored_here, serial
from tests.tagging import Tag, TagPredictor, TagTask
from trainers.corpora.examples import merge, read_rows, stage, write_splits
from trainers.corpora.steps import quotes
from trainers.engine.loop import evaluate as validate
from trainers.finetune import describe_model
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.parallel.topology import Topology
from trainers.scoring.evaluation import records, score_rows
from trainers.scoring.evaluation.evaluate import evaluate, plan_evaluation
from trainers.scoring.evaluation.figures import figures
from trainers.scoring.evaluation.score_rows import records_of
from trainers.scoring.model import model_of
from trainers.scoring.workers import Room
from trainers.tasks import registry
from trainers.tasks.predictor import load
from trainers.tasks.task import Objective

RECIPE = """\
name: names
corpora:
  sources: {news: {path: news.jsonl, columns: {tags: ner_tags}}}
  split: {validation: 0.2, test: 0.2}
  decontaminate: null
finetune: {task: tag, base: some/model, max_length: 16, stride: 4, learning_rate: 1e-3}
tune: {space: {finetune.learning_rate: {log_uniform: [1e-4, 1e-3]}}, metric: tag_f1}
serve: {gate: {tag_f1: 0.1}}
"""
ROOM = Room([], {})
WORDS = ["Anna", "sings", "and", "Bob", "walks", "to", "the\u200b house", "with", "Carla"]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(score_rows, "score_parts", scored_here)
    monkeypatch.setitem(registry.TASKS, "tag", Tag)  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "FINETUNE", registry.union([*registry.TASKS.items()]))
    loading.known_recipe.cache_clear()
    yield
    loading.known_recipe.cache_clear()


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    lines = []
    for number in range(40):
        words = [f"{word}{number % 7}" for word in WORDS[number % 3 :]] * (1 + 2 * (number % 2))
        tags = ["NAME" if word[0].isupper() else "O" for word in words]
        lines.append({"tokens": [*words, str(number)], "ner_tags": [*tags, "O"]})
    lines.append({"tokens": ["no", "tags"], "ner_tags": None})
    Path("news.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Path("recipe.yaml").write_text(RECIPE)
    return loading.load("recipe.yaml", ["corpora.clean.max_unreadable=0.1"], check_files=True)


@pytest.fixture
def examples(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    for module in (read_rows, merge, write_splits, quotes):
        monkeypatch.setattr(module, "each", serial)
    storage = Storage.at("mill")
    with artifacts.drafting(storage, "examples/names-examples-00", resumes=True) as draft:
        report = stage.run(StageJob(recipe, {}, draft, storage, Notes(), {"CPU": 1}))
        return draft.publish(
            recipe="names", stage="examples", parents={}, inputs={}, metrics=report
        )


@pytest.fixture
def task(recipe: Recipe, examples: Artifact, tokenizer: Any, tmp_path: Path) -> TagTask:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    start = Start(shape=Shape(hidden_size=32, layers=1, heads=2, max_positions=64))
    made: TagTask = lazy_import(recipe.finetune.implementation)(
        recipe.finetune, examples, start, str(tmp_path / "tokenizer")
    )
    return made


@pytest.fixture
def model(recipe: Recipe, examples: Artifact, task: TagTask) -> Artifact:
    """As fine-tuning leaves it, untrained."""
    torch.manual_seed(0)
    storage, parents = examples.storage, {"examples": examples}
    with artifacts.drafting(storage, "model/names-finetune-00") as draft:
        describe_model(draft, recipe, parents, {"loss": 1.0})
        with draft.folder() as folder:
            task.model().save_pretrained(folder)
            task.tokenizer().save_pretrained(folder)
        return draft.publish(
            recipe="names",
            stage="finetune",
            parents={"examples": examples.id},
            inputs={"finetune": {"task": "tag"}},
            metrics={},
        )


def test_its_section_is_one_of_the_recipe(recipe: Recipe) -> None:
    assert isinstance(recipe.finetune, Tag)
    with pytest.raises(RecipeError, match=r"finetune\.strid: unknown key .* did you mean 'stride'"):
        loading.load("recipe.yaml", ["finetune.strid=3"])
    with pytest.raises(RecipeError, match=r"serve\.gate\.accuracy: no such metric"):
        loading.load("recipe.yaml", ["serve.gate={accuracy: 0.5}"])
    with pytest.raises(RecipeError, match=r"tune\.metric: no such metric 'accuracy'"):
        loading.load("recipe.yaml", ["tune.metric=accuracy"])


@pytest.mark.parametrize("value", ["classify", "3", "[tag]"])
def test_what_is_no_section_is_told(recipe: Recipe, value: str) -> None:
    expected = r"^--set finetune: expected a section with keys of its own, found "
    with pytest.raises(RecipeError, match=expected):
        loading.load("recipe.yaml", [f"finetune={value}"])


def test_its_columns_are_looked_for(recipe: Recipe) -> None:
    Path("plain.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(RecipeError, match="finetune needs rows with tokens and tags"):
        loading.load(
            "recipe.yaml", ["corpora.sources={plain: {path: plain.jsonl}}"], check_files=True
        )
    with pytest.raises(RecipeError, match=r"columns\.tags: .*no column 'tag': .*ner_tags"):
        loading.load("recipe.yaml", ["corpora.sources.news.columns={tags: tag}"], check_files=True)


def test_a_value_of_another_type_is_told_with_its_row(recipe: Recipe) -> None:
    Path("news.jsonl").write_text('{"tokens": ["a", 2], "ner_tags": ["O", "O"]}\n')
    with pytest.raises(RecipeError, match=r"news\.jsonl:1: tokens is not what .* tokens\.1: "):
        loading.load("recipe.yaml", check_files=True)


def test_examples_have_its_columns(examples: Artifact) -> None:
    assert examples.manifest.metrics["dropped"] == {"no tags in column 'ner_tags'": 1}
    sizes = [examples.manifest.metrics[split] for split in ("train", "validation", "test")]
    assert sizes == [24, 8, 8]
    rows = stage.rows_in(examples, "train")
    for row in rows:
        assert row.keys() == {"id", "text", "group", "source", "tokens", "tags"}
        assert row["text"] == " ".join(row["tokens"])
        assert len(row["tokens"]) == len(row["tags"])
        assert "\u200b" not in row["text"], "cleaned word by word"


def test_a_long_row_is_several_sequences_of_one_batch(task: TagTask) -> None:
    rows = task.rows("train").take(np.arange(24))
    batch = task.collate(rows, range(24))
    assert max(len(row["sequences"]) for row in rows) > 1
    assert len(batch["input_ids"]) == sum(len(row["sequences"]) for row in rows)
    assert batch["input_ids"].shape[1] <= 16
    table = stage.rows_in(task.examples, "train")  # type: ignore[arg-type]
    assert task.targets(batch) == sum(len(row["tags"]) for row in table), "each word once"


class Alone:
    """What `validate` needs of an engine."""

    device = torch.device("cpu")

    def __init__(self, task: TagTask):
        self.objective = Objective(task.model(), task)

    def eval(self) -> None:
        self.objective.eval()

    def __call__(self, batch: Any) -> Any:
        return self.objective(batch)


def test_its_loss_and_metrics_do_not_depend_on_the_micro_batch(
    task: TagTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda _: None)
    engine, topology = Alone(task), Topology.of(0, 1)

    def found(size: int) -> dict[str, float]:
        settings = task.settings.model_copy(update={"micro_batch_size": size})
        return validate(engine, task, settings, topology, task.rows("validation"))

    once = found(8)
    assert once.keys() == {*task.settings.validation_metrics}
    assert found(1) == pytest.approx(once, rel=1e-4)
    assert not task.guess(task.rows("validation")).is_better_than({"loss": 0.1})


def scored(model: Artifact, examples: Artifact) -> list[Any]:
    return records_of(model_of(model), stage.rows_in(examples, "test"), ROOM, Notes()).records


def test_its_evaluation_has_intervals_slices_and_a_page(model: Artifact) -> None:
    evaluation = evaluate(plan_evaluation(model_of(model)), ROOM, Notes())
    metrics = evaluation.manifest.metrics
    low, high = metrics["test"]["intervals"]["tag_f1"]
    assert low <= metrics["test"]["tag_f1"] <= high
    assert metrics["reading"]["tokens"] == sum(one["tokens"] for one in records.read(evaluation))
    assert "calibration" not in metrics, "it has no confidence"
    page = (evaluation.path / "report.html").read_text("utf-8")
    assert "tag F1" in page
    assert plan_evaluation(model_of(model)).done == evaluation, "once"


def test_records_figures_and_gate(model: Artifact, examples: Artifact) -> None:
    kept = scored(model, examples)
    assert [record["row"] for record in kept] == list(range(8))
    found = figures(Tag, kept)
    assert found["words"] == sum(record["words"] for record in kept)
    refuse_worse({"tag_f1": 0.0}, found, Tag, model.id)


def test_the_endpoint_says_what_evaluation_says(model: Artifact, examples: Artifact) -> None:
    predictor = load(model.path)
    assert isinstance(predictor, TagPredictor)

    promotion = published(
        examples.storage, "promotion/names-promote-00", parents={"finetune": model.id}
    )
    client = TestClient(http_api(ReplicaHere(predictor), TagPredictor, Tag.route, Serve()))
    answer = client.post(Tag.route, json=first_request(promotion, Tag).body)
    assert answer.status_code == 200, answer.text
    rows = stage.rows_in(examples, "test")
    answer = client.post(Tag.route, json=Tag.request(rows)).json()
    kept = scored(model, examples)
    assert [one["tags"] for one in answer["predictions"]] == [one["prediction"] for one in kept]
    assert client.post(Tag.route, json={"sentences": ["no list"]}).status_code == 422
    schema = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"Tagged", "Request"} <= schema.keys()
    assert schema["Tagged"]["required"] == ["tokens", "truncated", "tags"]
