"""Conversations to token ids, of which the answers are learned."""

from pathlib import Path
from typing import Any

import pytest

from tests.chats import TEMPLATE, dialogue
from tests.objectives import start
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.conversations.messages import message
from trainers.tasks.conversations.template import NotRendered


@pytest.fixture
def folder(tokenizer: Any, tmp_path: Path) -> Path:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat.jinja").write_text(TEMPLATE, "utf-8")
    return tmp_path


def task(folder: Path, **keys: Any) -> ChatTask:
    settings = Chat.model_validate({"template": str(folder / "chat.jinja"), **keys})
    return ChatTask(settings, None, start("llama"), str(folder))


def row(number: int) -> dict[str, Any]:
    """As examples have it."""
    return {"messages": [message(**one) for one in dialogue(number)["messages"]], "tools": ""}


def test_answers_are_learned_up_to_their_end(folder: Path) -> None:
    of = task(folder)
    (made,) = of.render(row(1)).sequences
    tokenizer = of.loaded_tokenizer
    expected = tokenizer.apply_chat_template(dialogue(1)["messages"], tokenize=False)
    assert tokenizer.decode(made["input_ids"]).lower() == expected.lower()
    pairs = zip(made["input_ids"], made["learned"], strict=True)
    learned = [token for token, is_learned in pairs if is_learned]
    answers = [one["content"] for one in dialogue(1)["messages"] if one["role"] == "assistant"]
    expected = "".join(f"{answer}[SEP]" for answer in answers)
    assert tokenizer.decode(learned).lower() == expected.lower()


def test_the_template_is_saved_with_the_model(folder: Path, tmp_path: Path) -> None:
    task(folder).tokenizer().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "chat_template.jinja").read_text("utf-8") == TEMPLATE


def test_what_is_too_long_is_dropped_cut_or_split(folder: Path) -> None:
    (whole,) = task(folder).render(row(1)).sequences
    length = len(whole["input_ids"])
    with pytest.raises(NotRendered, match="longer than max_length"):
        task(folder, max_length=length - 1).render(row(1))
    cut = task(folder, max_length=length - 1, overlong="keep_start").render(row(1))
    assert cut.sequences[0]["input_ids"] == whole["input_ids"][:-1]
    assert cut.noted == {"cut to max_length": 1}
    parts = task(folder, max_length=length // 2 + 1, overlong="split").render(row(1)).sequences
    assert sum(sum(one["learned"]) for one in parts) == sum(whole["learned"])


def test_what_has_no_answer_left_is_dropped(folder: Path) -> None:
    """trl#6320: a row that is fully masked after truncation."""
    with pytest.raises(NotRendered, match="no answer left after the cut"):
        task(folder, max_length=8, overlong="keep_start").render(row(1))
