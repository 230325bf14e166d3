"""A language model from scratch, and what it is then tuned for: conversations, text to text, and
which of two answers to prefer; each by a recipe of its own that goes on from the one before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pyarrow.parquet as pq
import pytest

from cluster.store import artifacts
from cluster.store.storage import Storage
from serving.rollout.promote import promote
from tests.chats import NAMES, PLACES, TEMPLATE, dialogue
from tests.integration.command import Outcome, free_port
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
def run(raymill_at_head: Callable[..., Outcome], folder: Path) -> Callable[..., dict[str, Any]]:
    """Runs a recipe up to a stage; returns what it says of each."""

    def run(until: str, name: str, recipe: str, *overrides: str, **keys: str) -> dict[str, Any]:
        path = folder / f"{name}.yaml"
        path.write_text(recipe.format(name=name, folder=folder, **keys), "utf-8")
        given = [f"--set={one}" for one in overrides]
        place = ("--workspace", str(folder / "mill"), "--until", until)
        outcome = raymill_at_head("run", str(path), *place, *given)
        assert outcome.status == 0, outcome.stderr
        return {stage["stage"]: stage for stage in outcome.answer["stages"]}

    return run


CHAT = 'task: chat\n  template: "{folder}/chat.jinja"'


@pytest.fixture(scope="module")
def talk(run: Callable[..., dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Texts, and then conversations, by two workers."""
    keys = {"objective": "causal_lm", "architecture": "llama", "rows": "dialogues"}
    task = CHAT.format(folder=folder)
    return run("evaluate", "talk", RECIPE, "finetune.workers=2", **keys, task=task)


def test_chat_is_learned_and_answers_are_evaluated(talk):
    dropped = talk["render"]["metrics"]["train"]["dropped"]
    assert dropped.keys() == {"longer than max_length"}
    trained = talk["finetune"]["metrics"]
    assert trained["workers"] == 2
    assert trained["unlearned"] == dropped
    assert not trained["worse_than_guessing"]
    figures = talk["evaluate"]["metrics"]["test"]
    assert figures["loss"] == pytest.approx(trained["loss"], abs=1.0)
    assert 0 <= figures["rouge_l"] <= 1


def test_the_endpoint_answers_as_evaluation_has_it(start, talk, folder):
    mill, port = str(folder / "mill"), free_port()
    promote(artifacts.find(Storage.at(mill), talk["finetune"]["artifact"]), {})
    command = start("serve", "talk", "--workspace", mill, "--set", f"serve.port={port}")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

    def answers() -> bool:
        try:
            return [one.id for one in client.models.list()] == ["talk"]
        except openai.APIError:
            return False

    command.until(answers)
    storage = Storage.at(mill)
    evaluation = artifacts.find(storage, talk["evaluate"]["artifact"])
    records = pq.read_table(evaluation.path / "records.parquet").to_pylist()
    examples = artifacts.find(storage, talk["examples"]["artifact"])
    for row, record in zip(rows_in(examples, "test")[:4], records, strict=False):
        asked = [{key: one[key] for key in ("role", "content")} for one in row["messages"][:-1]]
        given = {"model": "talk", "messages": asked, "max_tokens": 12, "temperature": 0}
        answer = client.chat.completions.create(**given).choices[0]
        assert (answer.message.content.strip(), answer.finish_reason) == (
            record["prediction"],
            record["finish_reason"],
        )
        chunks = [*client.chat.completions.create(**given, stream=True)]
        text = "".join(one.choices[0].delta.content or "" for one in chunks)
        assert text == answer.message.content
    with pytest.raises(openai.BadRequestError, match="no such key"):
        client.chat.completions.create(**given, extra_body={"choices": 2})
    command.end()


def test_an_encoder_decoder_writes_completions(run):
    keys = {"objective": "span_corruption", "architecture": "t5", "rows": "sources"}
    made = run("evaluate", "write", RECIPE, **keys, task="task: generate")
    assert made["render"]["metrics"]["train"]["dropped"] == {}
    assert not made["finetune"]["metrics"]["worse_than_guessing"]
    figures = made["evaluate"]["metrics"]["test"]
    assert figures["loss"] < 6


FURTHER = """\
name: {name}
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
name: {name}
corpora:
  sources: {{pairs: {{path: "{folder}/pairs.jsonl"}}}}
  split: {{validation: 0.2, test: 0.2}}
  decontaminate: null
finetune:
  task: prefer
  base: further
  method: {{name: lora, merge: true}}
  reference: scored
  max_length: 64
  batch_size: 8
  learning_rate: 1e-2
  precision: fp32
  epochs: 3
  workers: 1
"""


def test_trainings_chain_from_texts_to_conversations_to_preference(run, talk, folder):
    """Behind the chat above: more texts, conversations again by an adapter, and pairs by another
    one, which is merged; each from the newest model of the recipe that it names."""
    pairs = [
        {
            "prompt": f"Where does {name} live?",
            "chosen": f"{name} lives in {place}.",
            "rejected": f"Not in {place}.",
        }
        for name in NAMES
        for place in PLACES
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    further = run("finetune", "further", FURTHER)
    choosy = run("evaluate", "choosy", CHOOSY)
    storage = Storage.at(str(folder / "mill"))

    def made(stages: dict[str, Any], stage: str) -> artifacts.Artifact:
        return artifacts.find(storage, stages[stage]["artifact"])

    begun = made(further, "pretrain").manifest.parents["base"]
    assert begun.startswith("model/talk-finetune-")
    assert further["finetune"]["metrics"]["loss"] < 5  # 6 is guessing
    preferring = made(choosy, "finetune")
    assert preferring.manifest.parents["base"] == further["finetune"]["artifact"]
    template = (preferring.path / "chat_template.jinja").read_text("utf-8")
    assert template == TEMPLATE, "the first one's, all the way"
    assert (preferring.path / "model.safetensors").exists()
    assert not (preferring.path / "adapter.json").exists()
    assert choosy["reference"]["metrics"]["rows"].keys() == {"train", "validation", "test"}
    assert not choosy["finetune"]["metrics"]["worse_than_guessing"]
    figures = choosy["evaluate"]["metrics"]["test"]
    assert figures["reward_accuracy"] > 0.9
    assert figures["margin"] > 0
    assert figures["kl"] > 0
    assert {*figures["intervals"]} >= {"reward_accuracy", "margin", "kl"}
    of_test, of_train = (
        {row["chosen"][0]["content"] for row in rows_in(made(choosy, "examples"), split)}
        for split in ("test", "train")
    )
    assert of_test.isdisjoint(of_train), "a prompt's pairs are in one split"
