"""Rows of tasks that write are split by their prompts: no model is tested on a prompt that it was
trained on."""

import collections
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.recipe.loading import load
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.fakes import Notes, serial
from trainers.corpora.examples import merge, read_rows, stage, write_splits
from trainers.corpora.examples.splits import SPLITS
from trainers.corpora.steps import near_dedup, quotes
from trainers.corpora.tokens.pack import read_arrow
from trainers.tasks.conversations.messages import message
from trainers.tasks.conversations.rows import ConversationRows

RECIPE = """\
name: demo
corpora:
  sources: {{rows: {{path: rows.jsonl}}}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
finetune: {{task: {task}, base: some/model}}
"""
PROMPTS, ANSWERS = 40, 3


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (read_rows, merge, write_splits, quotes, near_dedup):
        monkeypatch.setattr(module, "each", serial)


def row(task: str, prompt: int, answer: int) -> dict[str, Any]:
    asked, said = f"Question {prompt}?", f"Answer {answer}."
    match task:
        case "generate":
            return {"prompt": asked, "completion": said}
        case "chat":
            return {"conversations": ["Hello.", "Hi.", asked, said]}
        case _:
            return {"prompt": asked, "chosen": said, "rejected": f"Not {said}"}


def split(task: str, *overrides: str, grouped: bool = False) -> dict[str, list[dict[str, Any]]]:
    rows = [
        {**row(task, prompt, answer), **({"group": f"{prompt}-{answer}"} if grouped else {})}
        for prompt in range(PROMPTS)
        for answer in range(ANSWERS)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    Path("recipe.yaml").write_text(RECIPE.format(task=task), "utf-8")
    storage = Storage.at("mill")
    with drafting(storage, "examples/demo-examples-00", resumes=True) as draft:
        job = StageJob(load("recipe.yaml", overrides), {}, draft, storage, Notes(), {"CPU": 1})
        stage.run(job)
        made = draft.publish(recipe="demo", stage="examples", parents={}, inputs={}, metrics={})
    return {name: read_arrow(made.path / f"{name}.arrow").to_pylist() for name in SPLITS}


def prompt_of(made: Mapping[str, Any]) -> str:
    if "prompt" in made:
        return str(made["prompt"])
    messages = made.get("messages") or made["chosen"]
    return str(messages[-2]["content"])


def splits_by_prompt(of_splits: Mapping[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = collections.defaultdict(set)
    for name, rows in of_splits.items():
        for one in rows:
            found[prompt_of(one)].add(name)
    assert len(found) == PROMPTS
    return found


@pytest.mark.parametrize("task", ["chat", "generate", "prefer"])
def test_a_prompt_is_in_one_split(task: str) -> None:
    of_splits = split(task)
    assert [len(of_splits[name]) for name in SPLITS] == [72, 24, 24]
    assert all(len(names) == 1 for names in splits_by_prompt(of_splits).values())


def test_a_group_says_otherwise() -> None:
    of_splits = split("prefer", grouped=True)
    assert any(len(names) > 1 for names in splits_by_prompt(of_splits).values())


@pytest.mark.parametrize("task", ["chat", "generate", "prefer"])
def test_where_every_row_is_dropped_the_reasons_are_told(task: str) -> None:
    told = (
        "corpora.split: no rows in train, validation, test of 0; of 120 read, dropped: too short "
        "120; mend them, or change the keys of `corpora.clean` by which they are dropped"
    )
    with pytest.raises(UserError) as caught:
        split(task, "corpora.clean.min_characters=500")
    assert str(caught.value) == told


def test_the_same_words_after_another_system_are_another_prompt() -> None:
    rows = ConversationRows()
    asked = [message("user", "Summarize."), message("assistant", "Short.")]
    one, other = (
        rows.prompt_of({"messages": [message("system", text), *asked], "tools": ""})
        for text in ("A long text.", "Another one.")
    )
    assert one != other
