"""A dialogue that goes on behind its last answer is learned up to that."""

from typing import Any

import pytest

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.tasks.conversations.messages import messages
from trainers.tasks.conversations.rows import BEHIND, ConversationRows


@pytest.mark.parametrize(
    ("said", "learned"),
    [
        (["How?", "So."], ["How?", "So."]),
        (["How?", "So.", "Why?"], ["How?", "So."]),
        (["How?", "So.", "Why?", "Thus.", "Hm."], ["How?", "So.", "Why?", "Thus."]),
    ],
)
def test_what_is_behind_the_last_answer_is_left_out(said: list[str], learned: list[str]) -> None:
    row: dict[str, Any] = {"messages": messages(said)}
    assert ConversationRows().problem_of(row) is None
    counts = Counts()
    cleaned = ConversationRows().cleaned(row, Normalizer(Clean(), counts))
    assert [one["content"] for one in cleaned["messages"]] == learned
    assert counts.noted[BEHIND] == len(said) - len(learned)


def test_without_an_answer_nothing_is_learned() -> None:
    problem = ConversationRows().problem_of({"messages": messages(["How?"])})
    assert str(problem) == "no answer at the end: the last role is user"
