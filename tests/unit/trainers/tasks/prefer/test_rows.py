"""Rows of preference, in all the forms that data sets have them in."""

from typing import Any

import pytest

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.readers import Document
from trainers.tasks.conversations.messages import Message
from trainers.tasks.prefer.rows import Conversations, PreferenceRows, conversations

ROWS = PreferenceRows()
ASKED = {"role": "user", "content": "Which?"}
ONE, OTHER = ({"role": "assistant", "content": text} for text in ("This.", "That."))


def checked(**values: Any) -> Document:
    (document,) = ROWS.checked([Document("", None, "a:1", values=values)])
    return document


def found(**values: Any) -> tuple[list[Message], list[Message]]:
    document = checked(**values)
    assert document.problem is None, document.problem
    made = conversations(document.values)
    assert isinstance(made, Conversations)
    return made


def said(messages: list[Message]) -> list[tuple[str, str, bool]]:
    return [(one["role"], one["content"], one["train"]) for one in messages]


CHOSEN = [("user", "Which?", False), ("assistant", "This.", True)]
REJECTED = [("user", "Which?", False), ("assistant", "That.", True)]
FORMS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Which?", "chosen": "This.", "rejected": "That."},
    "messages": {"prompt": [ASKED], "chosen": [ONE], "rejected": [OTHER]},
    "a text and whole conversations": {
        "prompt": "Which?",
        "chosen": [ASKED, ONE],
        "rejected": [ASKED, OTHER],
    },
    "whole conversations": {"chosen": [ASKED, ONE], "rejected": [ASKED, OTHER]},
    "ShareGPT's": {
        "chosen": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "This."}],
        "rejected": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "That."}],
    },
    "transcripts": {
        "chosen": "\n\nHuman: Which?\n\nAssistant: This.",
        "rejected": "\n\nHuman: Which?\n\nAssistant: That.",
    },
    "a transcript that asks": {
        "prompt": "\n\nHuman: Which?\n\nAssistant:",
        "chosen": " This.".strip(),
        "rejected": "That.",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_prompt_with_either_answer(form: str) -> None:
    chosen, rejected = found(**FORMS[form])
    assert (said(chosen), said(rejected)) == (CHOSEN, REJECTED)


def test_a_system_stands_before_the_prompt() -> None:
    chosen, _ = found(**FORMS["texts"], system="Be brief.")
    assert said(chosen)[0] == ("system", "Be brief.", False)


def test_an_empty_system_is_none() -> None:
    empty = {"role": "system", "content": ""}
    chosen, rejected = found(chosen=[empty, ASKED, ONE], rejected=[ASKED, OTHER])
    assert (said(chosen), said(rejected)) == (CHOSEN, REJECTED)


def test_earlier_answers_that_are_the_same_belong_to_the_prompt() -> None:
    before = [ASKED, ONE, {"role": "user", "content": "And now?"}]
    chosen, rejected = found(chosen=[*before, ONE], rejected=[*before, OTHER])
    assert [one["train"] for one in chosen] == [False, False, False, True]
    assert [one["train"] for one in rejected] == [False, False, False, True]


def test_answers_of_several_turns_differ_from_the_first_that_does() -> None:
    again = {"role": "user", "content": "Sure?"}
    chosen, rejected = found(chosen=[ASKED, ONE, again, ONE], rejected=[ASKED, OTHER])
    assert [one["train"] for one in chosen] == [False, True, True, True]
    assert [one["train"] for one in rejected] == [False, True]


def test_what_both_answers_begin_with_stays_theirs() -> None:
    """trl#6433: a leading `<think>` of both answers became a part of the prompt."""
    thoughts = "<think>\nHm.</think>\nThis.", "<think>\nHm.</think>\nThat."
    answers = [{"role": "assistant", "content": text} for text in thoughts]
    chosen, rejected = found(chosen=[ASKED, answers[0]], rejected=[ASKED, answers[1]])
    assert [chosen[-1]["content"], rejected[-1]["content"]] == [*thoughts]
    assert said(chosen)[:-1] == [("user", "Which?", False)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"chosen": "This.", "rejected": "That."}, "two answers without a prompt"),
        ({"chosen": [ONE], "rejected": [OTHER]}, "two answers without a prompt"),
        ({"prompt": "Which?", "chosen": "This.", "rejected": "This."}, "chosen and rejected are"),
        ({"prompt": "Which?", "chosen": "This.", "rejected": " "}, "an empty answer"),
        ({"prompt": "Which?", "chosen": [ASKED], "rejected": [OTHER]}, "no answer at the end"),
        ({"prompt": [ASKED, ONE], "chosen": "This.", "rejected": "That."}, "roles out of order"),
    ],
)
def test_what_is_no_pair_is_told(values: dict[str, Any], reason: str) -> None:
    problem = checked(**values).problem
    assert isinstance(problem, Problem)
    assert problem.reason.startswith(reason)


def test_a_cleaned_row_is_read_as_it_was() -> None:
    """Evaluation reads what is in the examples."""
    first = found(
        prompt=[ASKED],
        chosen=[ONE, ASKED, ONE],
        rejected=[ONE, ASKED, OTHER],
    )
    row = {"chosen": first[0], "rejected": first[1], "tools": ""}
    cleaned = ROWS.cleaned(row, Normalizer(Clean(), Counts()))
    assert conversations(cleaned) == first
    assert conversations(cleaned) == conversations(row)


def test_the_text_of_a_row_is_its_prompt_and_both_answers() -> None:
    chosen, rejected = found(**FORMS["texts"])
    assert ROWS.text_of({"chosen": chosen, "rejected": rejected}) == "Which?\nThis.\nThat."
