"""A language model from scratch, and which of two answers it is then to prefer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chats import NAMES, PLACES, TEMPLATE
from tests.integration.command import Outcome

RECIPE = """\
name: likes
corpora:
  sources:
    texts: {{path: "{folder}/texts.txt"}}
    pairs: {{path: "{folder}/pairs.jsonl", repeat: 0}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
  tokenizer: {{vocabulary_size: 400}}
  sequence_length: 64
pretrain:
  objective: causal_lm
  model: {{architecture: llama, hidden_size: 32, layers: 1, heads: 2, max_positions: 64}}
  batch_size: 16
  workers: 1
finetune:
  task: prefer
  template: "{folder}/chat.jinja"
  max_length: 64
  batch_size: 8
  learning_rate: 3e-3
  precision: fp32
  epochs: 3
  workers: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("likes")
    answers = [f"{name} lives in {place}." for name in NAMES for place in PLACES]
    others = [f"Not in {place}, {number}." for number in range(56) for place in PLACES]
    (folder / "texts.txt").write_text("\n".join(answers + others), "utf-8")
    pairs = [
        {
            "prompt": f"{name}, {number}",
            "chosen": f"{name} lives in {place}.",
            "rejected": f"Not in {place}.",
        }
        for number, (name, place) in enumerate((one, other) for one in NAMES for other in PLACES)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    (folder / "chat.jinja").write_text(TEMPLATE, "utf-8")
    return folder


def test_a_model_learns_to_prefer_against_its_base(
    raymill: Callable[..., Outcome], folder: Path
) -> None:
    """At one worker and then at two, which find what the base was asked before."""

    def run(until: str, *overrides: str) -> dict[str, Any]:
        path = folder / "likes.yaml"
        path.write_text(RECIPE.format(folder=folder), "utf-8")
        given = [f"--set={one}" for one in overrides]
        place = ("--workspace", str(folder / "mill"), "--until", until)
        outcome = raymill("run", str(path), *place, *given)
        assert outcome.status == 0, outcome.stderr
        return {stage["stage"]: stage for stage in outcome.answer["stages"]}

    alone = run("evaluate")
    assert alone["reference"]["metrics"]["rows"].keys() == {"train", "validation", "test"}
    trained = alone["finetune"]["metrics"]
    assert not trained["worse_than_guessing"]
    shared = run("finetune", "finetune.workers=2", "finetune.evaluations=2")
    assert shared["reference"]["status"] == "skipped"
    for metric in ("loss", "margin", "reward_accuracy"):
        assert shared["finetune"]["metrics"][metric] == pytest.approx(trained[metric], rel=1e-3)
    figures = alone["evaluate"]["metrics"]["test"]
    assert figures["reward_accuracy"] > 0.9
    assert figures["margin"] > 0
    assert figures["kl"] > 0
    assert {*figures["intervals"]} >= {"reward_accuracy", "margin", "kl"}
