"""Real, if untrained, models on a test split and on files."""

import json
import shutil
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
from tests.fakes import TEXTS, Notes, published, scored_here
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.sources import content_hash
from trainers.corpora.tokens.pack import write_arrow
from trainers.finetune import describe_model
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.scoring.evaluation import records, score_rows
from trainers.scoring.evaluation.compare import compare_evaluations
from trainers.scoring.evaluation.evaluate import evaluate, plan_evaluation
from trainers.scoring.model import Model, model_in_folder, model_of
from trainers.scoring.workers import Room
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.predictor import load as load_predictor

RECIPE = """\
name: demo
corpora: {sources: {x: {path: x.jsonl, columns: {label: label}}}}
finetune: {base: some/model, max_length: 12}
"""


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_rows, "score_parts", scored_here)
    monkeypatch.setattr(score_rows, "PART_ROWS", 16)
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


def model(examples: Artifact, tokenizer: Any, name: str, seed: int) -> Model:
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
        made = draft.publish(
            recipe=name,
            stage="finetune",
            parents={"examples": examples.id},
            inputs={"finetune": {"task": "classify", "max_length": 12, "base_content": "0"}},
            metrics={},
        )
    return model_of(made)


def evaluated(model: Model, path: str | None = None, notes: Notes | None = None) -> Artifact:
    """On its test split, or on a file."""
    plan = plan_evaluation(model, None if path is None else Source(path=path))
    return evaluate(plan, Room([], {}), notes or Notes())


def test_records_and_figures_of_the_test_split(examples: Artifact, tokenizer: Any) -> None:
    own = model(examples, tokenizer, "one", 1)
    made = evaluated(own)
    metrics = made.manifest.metrics
    scored = records.read(made)
    assert metrics["test"]["documents"] == len(scored) == 40
    assert metrics["test"]["intervals_by_group"].keys() == metrics["test"]["intervals"].keys()
    assert [one["row"] for one in scored] == [*range(40)]
    assert [one["source"] for one in scored] == ["news", "blogs"] * 20
    assert [part["documents"] for part in metrics["slices"]["source"]] == [20, 20]
    assert {one["tokens"] for one in scored if one["truncated"]} == {12}
    assert metrics["headline"] == {"test accuracy": metrics["test"]["accuracy"]}
    assert {*made.manifest.files} == {"evaluation.json", "records.parquet", "report.html"}
    written = json.loads((made.path / "evaluation.json").read_text("utf-8"))
    assert written == metrics
    assert promote(own.artifact, {}).manifest.metrics["model"] == own.id  # type: ignore[arg-type]


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
    made = evaluated(own, "own.jsonl", notes)
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
    assert evaluated(own, "own.jsonl", again) == made
    assert again.lines == notes.lines, "told again, though it was not made again"
    with pytest.raises(UserError, match="was not evaluated"):
        promote(own.artifact, {})  # type: ignore[arg-type]


def test_labels_of_others_are_refused_before_anything_is_scored(
    examples: Artifact, tokenizer: Any
) -> None:
    own = model(examples, tokenizer, "one", 1)
    rows = [{"text": f"一家很好的店{number}", "label": "positive"} for number in range(30)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="its labels are positive 30, and model/one-finetune-00"):
        plan_evaluation(own, Source(path="own.jsonl"))


def test_two_models_are_compared_on_the_split_and_on_a_file(
    examples: Artifact, tokenizer: Any
) -> None:
    one, two = (model(examples, tokenizer, *of) for of in (("one", 1), ("two", 2)))
    made = compare_evaluations(one, two, evaluated(one), evaluated(two))
    metrics = made.manifest.metrics
    assert metrics["rows"] == 40
    assert metrics["metrics"]["accuracy"]["difference"] == pytest.approx(
        (metrics["only_first_right"] - metrics["only_second_right"]) / 40
    )
    rows = [{"text": f"这家店{number}", "label": "好差"[number % 2]} for number in range(20)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    on_file = [evaluated(each, "own.jsonl") for each in (one, two)]
    other = compare_evaluations(one, two, *on_file)
    assert other != made
    assert other.manifest.metrics["rows"] == 20


def test_what_the_stage_of_the_recipe_made_is_found_again(
    examples: Artifact, tokenizer: Any
) -> None:
    own = model(examples, tokenizer, "one", 1)
    parents = {"examples": examples.id, "pretrain": "model/x-pretrain-00", "finetune": own.id}
    other = {**parents, "examples": "examples/other-examples-00"}
    made = published(examples.storage, "evaluation/one-evaluate-0a", parents=parents)
    published(examples.storage, "evaluation/one-evaluate-0b", parents=other)
    inputs = {"finetune.answering": {"max_length": 4}}  # not as the model answers by itself
    published(examples.storage, "evaluation/one-evaluate-0c", parents=parents, inputs=inputs)
    assert evaluated(own) == made


def test_a_copied_model_is_evaluated_on_a_file(examples: Artifact, tokenizer: Any) -> None:
    own = model(examples, tokenizer, "one", 1)
    shutil.copytree(Path("mill") / own.id, "copy")
    rows = [{"text": f"这家店{number}", "label": "好差"[number % 2]} for number in range(20)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    copied = model_in_folder("copy", "elsewhere")
    assert copied is not None
    made = evaluated(copied, "own.jsonl")
    assert made.path == Path("elsewhere").absolute() / made.id
    assert records.read(made) == records.read(evaluated(own, "own.jsonl"))
    with pytest.raises(UserError, match=r"no test split in its lineage in .*/elsewhere; "):
        evaluated(copied)


@pytest.mark.parametrize("file", ["model.safetensors", "raymill.json"])
def test_a_damaged_model_is_not_evaluated(examples: Artifact, tokenizer: Any, file: str) -> None:
    own = model(examples, tokenizer, "one", 1)
    path = Path("mill") / own.id / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"one-finetune-00 is damaged: {file} has other bytes"):
        evaluated(own)
    with pytest.raises(UserError, match=f"one-finetune-00 is damaged: {file} has other bytes"):
        load_predictor(own.storage.local(own.place))
    assert not list(Path("mill").glob("evaluation/*"))


def test_a_row_that_the_model_cannot_read_is_told(examples: Artifact, tokenizer: Any) -> None:
    own = model(examples, tokenizer, "one", 1)
    rows = [{"id": "7", "text": "half a \ud800 character", "label": "好"}]
    with pytest.raises(UserError, match="row 7 cannot be evaluated: not what the model reads: "):
        score_rows.records_of(own, rows, Room([], {}), Notes())


def test_after_a_kill_it_goes_on_with_the_parts_that_are_left(
    examples: Artifact, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, asked = model(examples, tokenizer, "one", 1), []
    plan = plan_evaluation(own)

    def killed(model: Any, work: Any, parts: Any, room: Any, done: Any) -> None:
        scored_here(model, work, {1: parts[1]}, room, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(score_rows, "score_parts", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, Room([], {}), Notes())
    (kept,) = Path("mill").glob("work/*/records/*")
    kept.with_name("2.json.1a2b3c4d.part").write_text('{"ro')  # the next one was being written

    def going_on(model: Any, work: Any, parts: Any, room: Any, done: Any) -> None:
        asked.extend(parts)
        scored_here(model, work, parts, room, done)

    monkeypatch.setattr(score_rows, "score_parts", going_on)
    notes = Notes()
    made = evaluate(plan, Room([], {}), notes)
    assert asked == [0, 2]
    assert notes.lines == ["goes on after 1 of 3 parts"]
    assert [one["row"] for one in records.read(made)] == [*range(40)]
    assert not list(Path("mill").glob("work/*"))
