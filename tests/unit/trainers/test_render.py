"""Rows of examples to sequences of token ids: each in its order, or dropped for a reason."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.recipe.loading import load
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import Notes, published, serial
from trainers import finetune, render
from trainers.corpora.tokens.pack import read_arrow, write_arrow

RECIPE = """\
name: lines
corpora: {sources: {rows: {path: rows.jsonl}}}
finetune: {task: generate, base: base, instruction: "{prompt}\\n", max_length: 24}
"""
ROWS = [("今天天气很好", "hello world"), ("hello", "很好" * 40), ("a test", "很好"), ("x", "y")]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> Recipe:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(render, "each", serial)
    tokenizer.save_pretrained("base")
    Path("base/config.json").write_text('{"model_type": "llama"}', "utf-8")
    Path("recipe.yaml").write_text(RECIPE, "utf-8")
    return load("recipe.yaml")


def examples(rows: list[tuple[str, str]]) -> Artifact:
    storage = Storage.at("mill")
    made = published(storage, f"examples/lines-examples-{len(storage.folders('examples')):02}")
    prompts, completions = zip(*rows, strict=True)
    texts = [f"{prompt}\n{completion}" for prompt, completion in rows]
    columns = {"text": texts, "prompt": prompts, "completion": completions}
    table = pa.table({name: pa.array(each, pa.large_string()) for name, each in columns.items()})
    for split in ("train", "validation", "test"):
        write_arrow(table, made.path / f"{split}.arrow")
    return made


def made_of(recipe: Recipe, rows: list[tuple[str, str]]) -> tuple[Artifact, Notes]:
    notes, parents = Notes(), {"examples": examples(rows)}
    storage = parents["examples"].storage
    number = len(storage.folders("rows"))
    with artifacts.drafting(storage, f"rows/lines-render-{number:02}", resumes=True) as draft:
        metrics = render.run(StageJob(recipe, parents, draft, storage, notes, {"CPU": 1}))
        made = draft.publish(recipe="lines", stage="render", parents={}, inputs={}, metrics=metrics)
    return made, notes


def test_dropped_rows_are_counted_and_the_others_stay_in_order(recipe: Recipe) -> None:
    made, notes = made_of(recipe, ROWS)
    task = finetune.task(recipe, {"examples": made})
    ids = [row["input_ids"].tolist() for row in task.rows("train").take(range(3))]  # type: ignore[arg-type]
    words = [task.tokenizer().decode(one, skip_special_tokens=True) for one in ids]
    kept = [ROWS[0], *ROWS[2:]]
    assert words == [f"{prompt}\n{completion}" for prompt, completion in kept]
    counted = made.manifest.metrics["train"]
    assert counted["dropped"] == {"longer than max_length": 1}
    assert (counted["rows"], counted["sequences"]) == (4, 3)
    assert counted["tokens"] == sum(map(len, ids))
    assert task.unlearned() == {"longer than max_length": 1}
    assert "train: 4 rows, dropped: longer than max_length 1; 3 sequences" in notes.lines[0]


def test_it_is_the_same_for_any_number_of_parts(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = made_of(recipe, ROWS)
    monkeypatch.setattr(render, "CHARACTERS_TOGETHER", 1000)
    in_parts, _ = made_of(recipe, ROWS)
    assert in_parts.manifest.metrics == whole.manifest.metrics
    for split in ("train", "validation"):
        one, other = (read_arrow(each.path / f"{split}.arrow") for each in (whole, in_parts))
        assert one.to_pydict() == other.to_pydict()


def test_where_nothing_is_left_it_is_refused(recipe: Recipe) -> None:
    with pytest.raises(UserError, match=r"none of the 1 rows of train .*longer than max_length 1"):
        made_of(recipe, [ROWS[1]])


def test_a_row_that_fills_a_part_is_rendered_once(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "CHARACTERS_TOGETHER", 1)
    ranges = [*render._ranges(pa.chunked_array([["abc", "", "de", "f" * 9]]))]
    assert [row for start, stop in ranges for row in range(start, stop)] == [0, 1, 2, 3]
