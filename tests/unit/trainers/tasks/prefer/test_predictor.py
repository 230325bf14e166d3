"""What a model says of pairs, and what evaluation keeps of it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.objectives import start
from trainers.corpora.cleaning.config import Clean
from trainers.models.build import build
from trainers.models.card import CARD
from trainers.tasks.conversations.messages import message
from trainers.tasks.predictor import load
from trainers.tasks.prefer.predictor import PairInput, PreferPredictor
from trainers.tasks.prefer.spec import Prefer
from trainers.tasks.spec import REFERENCE

TEXTS = {
    "prompt": "Which?",
    "chosen": "The quick brown fox jumps.",
    "rejected": "Hello world.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chat_tokenizer: Any) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    build(start("llama"), "AutoModelForCausalLM", chat_tokenizer).save_pretrained(folder)
    chat_tokenizer.save_pretrained(folder)
    return folder


def predictor(folder: Path, **keys: Any) -> PreferPredictor:
    settings = Prefer.model_validate({"max_length": 64, **keys})
    card = settings.card(None, {})  # type: ignore[arg-type]
    known = {"task": "prefer", **card, "clean": Clean().model_dump(mode="json")}
    (folder / CARD).write_text(json.dumps(known), "utf-8")
    made = load(folder)
    assert isinstance(made, PreferPredictor)
    return made


def row(*reference: float) -> dict[str, Any]:
    """As examples have it, and what the base said of it."""
    asked = message("user", TEXTS["prompt"], train=False)
    both = {name: [asked, message("assistant", TEXTS[name])] for name in ("chosen", "rejected")}
    known = {REFERENCE: [*reference]} if reference else {}
    return {"id": "00", "tools": "", **both, **known}


def answered(of: PreferPredictor, value: Any) -> Any:
    (output,) = of.predict([TypeAdapter(of.Input).validate_python(value)])
    return output


def test_texts_and_rows_of_examples_are_the_same(folder: Path) -> None:
    of = predictor(folder)
    assert answered(of, TEXTS) == answered(of, of.input_of(row(-1.0, -1.0)))


def test_an_answer_alone_and_among_others_is_the_same(folder: Path) -> None:
    of = predictor(folder)
    more = [PairInput.model_validate({**TEXTS, "chosen": f"Hello {n}."}) for n in range(5)]
    first = PairInput.model_validate(TEXTS)
    alone, together = of.predict([first])[0], of.predict([first, *more])[0]
    assert together.log_probabilities == pytest.approx(alone.log_probabilities, rel=1e-5)


def test_a_gpu_that_lacks_memory_takes_fewer_pairs_at_once(folder: Path) -> None:
    of, sizes = predictor(folder), []
    pairs = [PairInput.model_validate({**TEXTS, "chosen": f"Hello {n}."}) for n in range(5)]
    expected = [one.log_probabilities for one in of.predict(pairs)]

    def small(module: Any, _: Any, inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    of.model.base_model.register_forward_pre_hook(small, with_kwargs=True)
    found = [one.log_probabilities for one in of.predict(pairs)]
    assert found == [pytest.approx(both, rel=1e-5) for both in expected]
    assert sizes[0] == 10
    assert max(sizes[-3:]) <= 4


def test_a_record_has_the_reward_against_the_reference(folder: Path) -> None:
    of = predictor(folder, beta=0.5)
    output = answered(of, TEXTS)
    assert output.margin is None  # nothing says what the model was before
    chosen, rejected = output.log_probabilities
    record = of.record(row(chosen - 2.0, rejected + 1.0), output)
    assert record["margin"] == pytest.approx(0.5 * 3.0, rel=1e-5)
    assert (record["gold"], record["prediction"]) == ("chosen", "chosen")
    assert record["score"] == pytest.approx(1 / (1 + math.exp(-1.5)), rel=1e-5)
    first, second = output.answer_tokens
    assert record["kl"] == pytest.approx(((2 / first) ** 2 + (1 / second) ** 2) / 4, rel=1e-4)
    assert record["chosen_log_probability"] == pytest.approx(chosen / first)
    same = of.record(row(chosen, rejected), output)
    assert same["margin"] == 0
    assert same["prediction"] == "rejected"  # it prefers none, which is no success


def test_without_a_reference_the_reward_is_the_model_s_own(folder: Path) -> None:
    of = predictor(folder, loss="simpo", beta=2.0)
    output = answered(of, TEXTS)
    per_token = [
        value / tokens
        for value, tokens in zip(output.log_probabilities, output.answer_tokens, strict=True)
    ]
    assert output.margin == pytest.approx(2.0 * (per_token[0] - per_token[1]), rel=1e-5)
    record = of.record(row(), output)
    assert record["margin"] == output.margin
    assert "kl" not in record


def test_of_what_is_too_long_the_end_is_read(folder: Path) -> None:
    of = predictor(folder, max_length=24)
    output = answered(of, {**TEXTS, "prompt": "The quick brown fox jumps. " * 9})
    assert output.truncated
    assert min(output.answer_tokens) > 0


def test_what_is_no_pair_is_refused(folder: Path) -> None:
    of = predictor(folder)
    with pytest.raises(ValidationError, match="chosen and rejected are the same"):
        answered(of, {**TEXTS, "rejected": TEXTS["chosen"]})


def test_references_are_those_that_answers_have(folder: Path) -> None:
    """Of rows of examples, and of these as the stage `render` makes them."""
    of = predictor(folder)
    (pair,) = of.encode([PairInput.model_validate(TEXTS)])
    chosen, rejected = pair.sequences
    rendered = {
        "input_ids": [*chosen["input_ids"], *rejected["input_ids"]],
        "learned": [*chosen["learned"], *rejected["learned"]],
        "lengths": [len(chosen["input_ids"]), len(rejected["input_ids"])],
    }
    expected = [answered(of, TEXTS).log_probabilities]
    assert of.references([row()], is_rendered=False) == expected
    assert of.references([rendered], is_rendered=True) == expected


def test_of_a_row_that_a_template_refuses_nothing_is_said(folder: Path) -> None:
    of = predictor(folder)
    refused = row()
    refused["chosen"] = [refused["chosen"][0], message("assistant", "The end: [SEP]")]
    assert of.problem_of(PairInput.model_validate(of.input_of(refused))) is not None
    expected = answered(of, TEXTS).log_probabilities
    assert of.references([refused, row()], is_rendered=False) == [None, expected]
