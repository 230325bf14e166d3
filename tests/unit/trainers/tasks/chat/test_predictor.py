"""An assistant answers what it is asked, by the prompt that it was trained on."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.chats import TEMPLATE, dialogue
from tests.fakes import Notes, recorded_here
from tests.writers import CARD, save_writer
from trainers.scoring.answers import Candidate, answered
from trainers.scoring.evaluation.score_rows import record_part
from trainers.tasks.chat.predictor import ChatPredictor, Conversation
from trainers.tasks.conversations.messages import messages
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.predictor import load
from trainers.tasks.writing.figures import figures

ROWS = [
    {"messages": messages(dialogue(number)["messages"]), "tools": "", "text": str(number)}
    for number in range(6)
]


@pytest.fixture(scope="module")
def folder(chat_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_writer(tmp_path_factory.mktemp("chat"), chat_tokenizer, "chat")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Any:
    return load(folder)


def test_a_row_is_asked_without_its_answer(predictor: ChatPredictor) -> None:
    inputs = [predictor.input_of(row) for row in ROWS]
    renderer = Renderer(predictor.tokenizer)
    for row, encoded in zip(ROWS, predictor.encode(inputs), strict=True):
        prompt = renderer.prompt(row["messages"][:-1])
        most = CARD["max_length"]
        assert encoded.input_ids == prompt[-most:]
        assert encoded.is_cut == (len(prompt) > most)


def test_answers_do_not_depend_on_the_other_rows(predictor: ChatPredictor) -> None:
    inputs = [predictor.input_of(row) for row in ROWS]
    together = predictor.predict(inputs)
    assert together == [predictor.predict([one])[0] for one in inputs]
    assert predictor.predict([]) == []
    assert all(one.new_tokens <= CARD["most_new_tokens"] for one in together)


def test_other_keys_than_those_on_its_card_say_how_it_answers(folder: Path) -> None:
    briefly: Any = load(folder, answering={"most_new_tokens": 1})
    answers = briefly.predict([briefly.input_of(row) for row in ROWS])
    assert {one.new_tokens for one in answers} == {1}


def test_records_have_all_that_figures_need(predictor: ChatPredictor) -> None:
    records = recorded_here(predictor, ROWS)
    for row, record in zip(ROWS, records, strict=True):
        *asked, last = row["messages"]
        assert record["prompt"].endswith(asked[-1]["content"])
        words = "".join(record["gold"].lower().split())
        assert words == "".join(last["content"].lower().split())
        rendered = Renderer(predictor.tokenizer).render(row["messages"])
        assert record["targets"] == sum(rendered.learned)
    computed = figures(records)
    assert computed["loss"] > 0
    assert set(computed["finish_reasons"]) <= {"stop", "length"}


def test_the_loss_of_a_record_is_that_of_training(predictor: ChatPredictor) -> None:
    (record,) = recorded_here(predictor, ROWS[1:2])
    rendered = Renderer(predictor.tokenizer).render(ROWS[1]["messages"])
    ids = torch.tensor(rendered.input_ids)
    likelihoods = predictor.model(ids[None]).logits[0].log_softmax(-1)
    expected = -sum(
        float(likelihoods[place - 1, ids[place]])
        for place, is_learned in enumerate(rendered.learned)
        if is_learned
    )
    assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_base_is_asked_as_the_model_is(folder: Path, tmp_path: Path, tokenizer: Any) -> None:
    """By the model's tokenizer and card; only the weights are others."""
    base = save_writer(tmp_path, tokenizer, "chat")  # whose tokenizer has no template
    for name in ("raymill.json", "tokenizer.json"):
        (base / name).unlink()
    of_base = load(folder, weights=str(base))
    assert recorded_here(of_base, ROWS) == recorded_here(load(folder), ROWS)


@pytest.mark.parametrize(
    "value",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "Be brief."}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "nobody", "content": "hm"}]},
        {"messages": "", "tools": ""},
        {"messages": 7},
        {"text": "Hello?"},
        {"messages": "Hello?", "tools": "no JSON"},
    ],
)
def test_what_cannot_be_answered_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Conversation).validate_python(value)


def test_a_text_is_what_a_user_says() -> None:
    (said,) = Conversation.model_validate({"messages": "Hello?"}).messages
    assert (said["role"], said["content"]) == ("user", "Hello?")


def test_an_empty_system_is_asked_as_none_is(predictor: ChatPredictor) -> None:
    asked = dialogue(1)["messages"][:-1]
    empty = {"role": "system", "content": ""}
    inputs = [Conversation.model_validate({"messages": one}) for one in (asked, [empty, *asked])]
    plain, with_empty = predictor.encode(inputs)
    assert with_empty == plain


def test_rows_that_the_template_refuses_are_put_aside(folder: Path) -> None:
    strict = load(folder)
    refusing = "{% if 'Bob' in messages[0].content %}{{ raise_exception('no Bob') }}{% endif %}"
    strict.renderer._template._tokenizer.chat_template = refusing + TEMPLATE
    candidates = [Candidate(str(number), row, row) for number, row in enumerate(ROWS)]
    (done,) = answered(candidates, strict, contextlib.nullcontext())
    bob = [n for n, row in enumerate(ROWS) if "Bob" in row["messages"][0]["content"]]
    assert [int(one.where) for one in done.failures] == bob
    assert len(done.outputs) == len(ROWS) - len(bob)
    assert "the template refuses it" in str(done.failures[0].inputs)
    part = {"first": 0, "rows": [{**row, "id": str(n)} for n, row in enumerate(ROWS)]}
    outcome = record_part(strict, 0, part, Notes(), contextlib.nullcontext())
    assert [*outcome["failures"].values()] == [len(bob)]
    assert outcome["rows"] == len(ROWS) - len(bob)


def test_rows_of_any_form_can_be_scored(predictor: ChatPredictor) -> None:
    rows = [
        {"prompt": "Where?\nIn Rome?", "text": ""},
        {"prompt": "Where?", "input": "In Rome?"},
        {"messages": [{"from": "human", "value": "Where?\nIn Rome?"}], "tools": None},
        {"messages": [{"role": "user", "content": "Where?\nIn Rome?"}], "tools": []},
    ]
    first, *others = predictor.encode([predictor.input_of(row) for row in rows])
    assert others == [first] * 3
