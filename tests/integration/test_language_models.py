"""A language model from scratch, and what it is then tuned for: conversations, text to text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chats import NAMES, PLACES, TEMPLATE, dialogue
from tests.integration.command import Outcome

RECIPE = """\
name: {name}
corpora:
  sources:
    texts: {{path: "{folder}/texts.txt"}}
    rows: {{path: "{folder}/{rows}.jsonl", repeat: 0}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
  tokenizer: {{vocabulary_size: 400}}
  sequence_length: 128
pretrain:
  objective: {objective}
  model: {{architecture: {architecture}, hidden_size: 32, layers: 1, heads: 2, max_positions: 128}}
  batch_size: 16
  workers: 1
finetune:
  {task}
  max_length: 112
  most_new_tokens: 12
  batch_size: 8
  learning_rate: 3e-3
  precision: fp32
  epochs: 4
  workers: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    places = [f"{name} lives in {place}." for name in NAMES for place in PLACES]
    (folder / "texts.txt").write_text("\n".join(places * 3), "utf-8")
    rows = [dialogue(number) for number in range(56)]
    rows += [{"messages": dialogue(number)["messages"] * 9} for number in range(20)]  # too long
    sources = [{"prompt": f"{name}, {place}", "completion": f"{name} lives in {place}."}
               for name in NAMES for place in PLACES]  # fmt: skip
    for name, lines in (("dialogues", rows), ("sources", sources)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (folder / "chat.jinja").write_text(TEMPLATE, "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(raymill: Callable[..., Outcome], folder: Path) -> Callable[..., dict[str, Any]]:
    """Runs a recipe up to its evaluation; returns the metrics by stage."""

    def run(name: str, *overrides: str, **keys: str) -> dict[str, Any]:
        path = folder / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, folder=folder, **keys), "utf-8")
        given = [f"--set={one}" for one in overrides]
        place = ("--workspace", str(folder / "mill"), "--until", "evaluate")
        outcome = raymill("run", str(path), *place, *given)
        assert outcome.status == 0, outcome.stderr
        return {stage["stage"]: stage["metrics"] for stage in outcome.answer["stages"]}

    return run


def test_chat_is_learned_the_same_at_any_number_of_workers(run, folder):
    keys = {"objective": "causal_lm", "architecture": "llama", "rows": "dialogues"}
    task = f'task: chat\n  template: "{folder}/chat.jinja"'
    alone = run("talk", **keys, task=task)
    dropped = alone["render"]["train"]["dropped"]
    assert dropped.keys() == {"longer than max_length"}
    assert alone["finetune"]["unlearned"] == dropped
    assert not alone["finetune"]["worse_than_guessing"]
    figures = alone["evaluate"]["test"]
    assert figures["loss"] == pytest.approx(alone["finetune"]["loss"], abs=1.0)
    assert 0 <= figures["rouge_l"] <= 1
    shared = run("talk", "finetune.workers=2", "finetune.evaluations=2", **keys, task=task)
    assert shared["finetune"]["workers"] == 2
    for metric in ("loss", "accuracy", "tokens"):
        assert shared["finetune"][metric] == pytest.approx(alone["finetune"][metric], rel=1e-3)


def test_an_encoder_decoder_writes_completions(run):
    keys = {"objective": "span_corruption", "architecture": "t5", "rows": "sources"}
    metrics = run("write", **keys, task="task: generate")
    assert metrics["render"]["train"]["dropped"] == {}
    assert not metrics["finetune"]["worse_than_guessing"]
    figures = metrics["evaluate"]["test"]
    assert figures["loss"] < 6
    briefly = run("write", "finetune.most_new_tokens=1", **keys, task="task: generate")
    assert briefly["finetune"] == metrics["finetune"], "it was not trained again"
    ended = briefly["evaluate"]["test"]["finish_reasons"]
    assert briefly["evaluate"]["test"]["loss"] == figures["loss"]
    assert ended != figures["finish_reasons"]
