"""Pairs of any file are evaluated against what the model was trained from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.chats import NAMES
from tests.fakes import Notes, scored_here
from tests.objectives import start
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.sources import base_hash, content_hash
from trainers.models.build import build
from trainers.models.card import CARD
from trainers.scoring.evaluation import records, score_rows
from trainers.scoring.evaluation.compare import compare_evaluations
from trainers.scoring.evaluation.evaluate import evaluate, plan_evaluation
from trainers.scoring.model import Model, model_of
from trainers.scoring.workers import Room
from trainers.tasks.predictor import load
from trainers.tasks.prefer.predictor import PairInput
from trainers.tasks.prefer.spec import Prefer

PAIRS = [
    {"prompt": f"Who is {name}?", "chosen": f"{name} is here.", "rejected": "Nobody."}
    for name in NAMES
]
FILE = Source(path="pairs.jsonl")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_rows, "score_parts", scored_here)
    content_hash.cache_clear()
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)), "utf-8")


@pytest.fixture
def trained(chat_tokenizer: Any) -> Callable[..., Model]:
    """Models as fine-tuning leaves them, from the folder `base`, with weights by their seed."""

    def save(folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        build(start("llama"), "AutoModelForCausalLM", chat_tokenizer).save_pretrained(folder)
        chat_tokenizer.save_pretrained(folder)

    save(Path("base"), 0)

    def trained(name: str, seed: int, **keys: Any) -> Model:
        settings = Prefer.model_validate({"task": "prefer", "base": "base", **keys})
        with drafting(Storage.at("mill"), f"model/{name}-finetune-00") as draft:
            with draft.folder() as folder:
                save(folder, seed)
                card = {**settings.card(None, {}), "clean": Clean().model_dump(mode="json")}  # type: ignore[arg-type]
                (folder / CARD).write_text(json.dumps({"task": "prefer", **card}), "utf-8")
            inputs = {"finetune": settings.identity()}
            made = draft.publish(
                recipe=name, stage="finetune", parents={}, inputs=inputs, metrics={}
            )
        return model_of(made)

    return trained


def evaluated(model: Model, notes: Notes | None = None) -> Any:
    return evaluate(plan_evaluation(model, FILE), Room([], {}), notes or Notes())


def test_rewards_on_a_file_are_against_what_the_model_was_trained_from(
    trained: Callable[..., Model],
) -> None:
    model, notes = trained("liking", 1), Notes()
    made = evaluated(model, notes)
    assert notes.lines[0] == "asks what the model was trained from about the same rows"
    policy, base = load(model.artifact.path), load(model.artifact.path, weights="base")  # type: ignore[union-attr]
    (after,), (before,) = (
        of.predict([PairInput.model_validate(PAIRS[0])]) for of in (policy, base)
    )
    gained = [
        float(new - old)
        for new, old in zip(after.log_probabilities, before.log_probabilities, strict=True)
    ]
    (first, *_) = records.read(made)
    assert first["margin"] == pytest.approx(0.1 * (gained[0] - gained[1]), rel=1e-4)
    assert first["kl"] > 0
    assert made.manifest.metrics["rows"]["kept"] == len(PAIRS)
    other = trained("other", 2)
    compared = compare_evaluations(model, other, made, evaluated(other))
    assert compared.manifest.metrics["rows"] == len(PAIRS)


def test_a_model_that_was_not_trained_has_no_margin(trained: Callable[..., Model]) -> None:
    made = evaluated(trained("same", 0))
    assert {one["margin"] for one in records.read(made)} == {0.0}


def test_a_loss_without_a_reference_asks_nobody(trained: Callable[..., Model]) -> None:
    model = trained("simple", 1, loss="simpo")
    shutil.rmtree("base")
    assert "kl" not in records.read(evaluated(model))[0]


def test_a_base_that_is_gone_or_another_is_refused_before_anything_is_asked(
    trained: Callable[..., Model],
) -> None:
    model = trained("liking", 1)
    assert base_hash("base", "") == model.artifact.manifest.inputs["finetune"]["base_content"]  # type: ignore[union-attr]
    for change in (
        lambda: Path("base/config.json").write_text("{}"),
        lambda: shutil.rmtree("base"),
    ):
        change()
        with pytest.raises(UserError, match="'base' is not here, or another one than it was"):
            plan_evaluation(model, FILE)
