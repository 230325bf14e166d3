"""A language model from scratch, and what it is then tuned for: conversations, text to text, and
which of two answers to prefer; each by a recipe of its own that goes on from the one before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.store import artifacts
from cluster.store.storage import Storage
from tests.chats import NAMES, PLACES, TEMPLATE, dialogue
from tests.integration.command import Outcome
from trainers.corpora.examples.stage import rows_in

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
    assert briefly["evaluate"]["test"]["loss"] == figures["loss"]
    short, long = (
        made["evaluate"]["test"]["per_text"]["answers"]["characters"] for made in (briefly, metrics)
    )
    assert short < long


FURTHER = """\
name: further
corpora:
  sources:
    texts: {{path: "{folder}/texts.txt"}}
    rows: {{path: "{folder}/dialogues.jsonl", repeat: 0}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
  tokenizer: {{base: talk}}
  sequence_length: 128
pretrain: {{objective: causal_lm, base: talk, batch_size: 16, workers: 1}}
finetune: {{task: chat, method: lora, max_length: 112, most_new_tokens: 12, workers: 1}}
"""
CHOOSY = """\
name: choosy
corpora:
  sources: {{pairs: {{path: "{folder}/pairs.jsonl"}}}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
finetune: {{task: prefer, base: further, max_length: 112, learning_rate: 3e-3, workers: 1}}
"""


def test_trainings_chain_from_texts_to_conversations_to_preference(raymill, run, folder):
    """Behind the chat above: more texts, conversations again by an adapter, and pairs, each from
    the newest model of the recipe that it names."""
    keys = {"objective": "causal_lm", "architecture": "llama", "rows": "dialogues"}
    run("talk", **keys, task=f'task: chat\n  template: "{folder}/chat.jinja"')
    pairs = [
        {
            "prompt": f"Where does {name} live?",
            "chosen": f"{name} lives in {place}.",
            "rejected": f"Nobody knows {place}.",
        }
        for name in NAMES
        for place in PLACES
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    made: dict[str, Any] = {}
    for name, recipe in (("further", FURTHER), ("choosy", CHOOSY)):
        path = folder / f"{name}.yaml"
        path.write_text(recipe.format(folder=folder), "utf-8")
        outcome = raymill("run", str(path), "--workspace", str(folder / "mill"))
        assert outcome.status == 0, outcome.stderr
        made |= {(name, stage["stage"]): stage for stage in outcome.answer["stages"]}
    storage = Storage.at(str(folder / "mill"))
    found = {key: artifacts.find(storage, stage["artifact"]) for key, stage in made.items()}
    chained = {key: artifact.manifest.parents.get("base") for key, artifact in found.items()}
    assert chained["further", "pretrain"].startswith("model/talk-finetune-")
    assert chained["choosy", "finetune"] == made["further", "finetune"]["artifact"]
    assert made["further", "evaluate"]["metrics"]["test"]["loss"] < 5  # 6 is guessing
    assert made["choosy", "evaluate"]["metrics"]["test"]["reward_accuracy"] > 0.5
    template = (found["choosy", "finetune"].path / "chat_template.jinja").read_text("utf-8")
    assert template == TEMPLATE, "the first one's, all the way"
    test_rows = rows_in(found["choosy", "examples"], "test")
    trained_on = {
        row["chosen"][0]["content"] for row in rows_in(found["choosy", "examples"], "train")
    }
    assert trained_on.isdisjoint(row["chosen"][0]["content"] for row in test_rows)
