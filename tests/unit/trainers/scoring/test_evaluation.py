"""Real, if untrained, models on a test split and on files."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from cluster.errors import UserError
from cluster.recipe.loading import load
from cluster.store.artifacts import Artifact, drafting
from cluster.store.storage import Storage
from serving.rollout.promote import promote
from tests.fakes import TEXTS, Notes, published
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.sources import content_hash
from trainers.corpora.tokens.pack import write_arrow
from trainers.finetune import describe_model
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.scoring import records
from trainers.scoring.compare import compare_evaluations
from trainers.scoring.evaluation import evaluate_model, evaluate_on
from trainers.tasks.classify.task import ClassifyTask

RECIPE = """\
name: demo
corpora: {sources: {x: {path: x.jsonl, columns: {label: label}}}}
finetune: {base: some/model, max_length: 12}
"""


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.chdir(tmp_path)
    content_hash.cache_clear()
    Path("recipe.yaml").write_text(RECIPE)
    storage = Storage.at("mill")
    files = {"labels.json": '["好", "差"]'}
    made = published(storage, "examples/demo-examples-00", files)
    for split in ("train", "test"):
        texts = [f"{text}{split}{number}" for number in range(8) for text in TEXTS]
        columns = {
            "id": [f"{text_key(text):016x}" for text in texts],
            "text": texts,
            "label": ["好差"[number % 2] for number in range(len(texts))],
            "group": pa.array([f"g{number // 4}" for number in range(len(texts))]),
            "source": ["news", "blogs"] * (len(texts) // 2),
        }
        write_arrow(pa.table(columns), made.path / f"{split}.arrow")
    return made


def model(examples: Artifact, tokenizer: Any, name: str, seed: int) -> Artifact:
    """As fine-tuning leaves it, untrained."""
    torch.manual_seed(seed)
    recipe = load("recipe.yaml", [f"name={name}"])
    tokenizer.save_pretrained("tokenizer")
    shape = Shape(hidden_size=32, layers=1, heads=2, max_positions=64)
    task = ClassifyTask(recipe.finetune, examples, Start(shape=shape), "tokenizer")
    parents = {"examples": examples}
    with drafting(examples.storage, f"model/{name}-finetune-00") as draft:
        describe_model(draft, recipe, parents, {"accuracy": 0.5})
        with draft.folder() as folder:
            task.model().save_pretrained(folder)
            task.tokenizer().save_pretrained(folder)
        return draft.publish(
            recipe=name,
            stage="finetune",
            parents={"examples": examples.id},
            inputs={"finetune": {"task": "classify", "max_length": 12, "base_content": "0"}},
            metrics={},
        )


def test_records_and_figures_of_the_test_split(examples: Artifact, tokenizer: Any) -> None:
    own = model(examples, tokenizer, "one", 1)
    made = evaluate_model(own)
    metrics = made.manifest.metrics
    scored = records.read(made)
    assert metrics["test"]["documents"] == len(scored) == 40
    assert metrics["test"]["intervals_by_group"].keys() == metrics["test"]["intervals"].keys()
    assert [one["row"] for one in scored] == [*range(40)]
    assert [one["source"] for one in scored] == ["news", "blogs"] * 20
    assert [part["documents"] for part in metrics["slices"]["source"]] == [20, 20]
    assert all(one["truncated"] == (one["tokens"] == 12) for one in scored[:4])
    assert metrics["headline"] == {"test accuracy": metrics["test"]["accuracy"]}
    assert {*made.manifest.files} == {"evaluation.json", "records.parquet", "report.html"}
    written = json.loads((made.path / "evaluation.json").read_text("utf-8"))
    assert written == metrics
    assert promote(own, {}).manifest.metrics["model"] == own.id


def test_a_file_is_an_evaluation_of_its_own(examples: Artifact, tokenizer: Any) -> None:
    own = model(examples, tokenizer, "one", 1)
    rows = [
        *({"text": f"一家很好的店{number}", "label": "好"} for number in range(30)),
        {"text": f"{TEXTS[3]}train0", "label": "好"},
        {"text": "谈不上好坏", "label": "平"},
        {"text": "没有标签", "label": None},
    ]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes = Notes()
    made = evaluate_on(own, Source(path="own.jsonl"), notes)
    metrics = made.manifest.metrics
    assert made.manifest.stage == "data"
    assert "test" not in metrics
    assert metrics["data"]["documents"] == 32
    (dropped,) = (made.path / "dropped.jsonl").read_text("utf-8").splitlines()
    assert json.loads(dropped)["reason"] == "no label in column 'label'"
    assert metrics["rows"] == {
        "read": 33,
        "kept": 32,
        "dropped": {"no label in column 'label'": 1},
        "noted": {},
        "unknown_labels": {"平": 1},
        "trained_on": 1,
    }
    assert len(notes.lines) == 3
    again = Notes()
    assert evaluate_on(own, Source(path="own.jsonl"), again) == made
    assert again.lines == notes.lines, "told again, though it was not made again"
    with pytest.raises(UserError, match="was not evaluated"):
        promote(own, {})


def test_two_models_are_compared_on_the_split_and_on_a_file(
    examples: Artifact, tokenizer: Any
) -> None:
    one, two = (model(examples, tokenizer, *of) for of in (("one", 1), ("two", 2)))
    made = compare_evaluations(one, two, evaluate_model(one), evaluate_model(two))
    metrics = made.manifest.metrics
    assert metrics["rows"] == 40
    assert metrics["metrics"]["accuracy"]["difference"] == pytest.approx(
        (metrics["only_first_right"] - metrics["only_second_right"]) / 40
    )
    rows = [{"text": f"这家店{number}", "label": "好差"[number % 2]} for number in range(20)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    on_file = [evaluate_on(each, Source(path="own.jsonl"), Notes()) for each in (one, two)]
    other = compare_evaluations(one, two, *on_file)
    assert other != made
    assert other.manifest.metrics["rows"] == 20
