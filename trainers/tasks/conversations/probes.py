"""Whether conversations can be learned by a chat template, found out before any row is read.

Refused, with the fault's name: a template that leaves out or changes what messages say; that writes
tokens which the vocabulary lacks; that begins an answer otherwise than its generation prompt asks
for it; that ends an answer with the next message, or with no token, so that a model never learns
to stop; and one whose marks leave out the answers.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from cluster.errors import UserError
from trainers.tasks.conversations.messages import ASSISTANT, USER, message
from trainers.tasks.conversations.template import (
    KEY,
    UNFINISHED,
    ChatTemplate,
    NotRendered,
    Turn,
)

Found = TypeVar("Found")

QUESTION = message(USER, "Which one?\n\n  1. blue {x}\n  2. 红")
ANSWER = message(ASSISTANT, "The second:\n\n    x = [2]\n\n红, that is.")
CONVERSATION = (
    QUESTION,
    ANSWER,
    message(USER, "Once more,\n- please"),
    message(ASSISTANT, "As I said:\n\n- 红"),
)
"""What any template must render, with the layout and signs that a careless one changes."""
CALL = message(
    ASSISTANT,
    "",
    tool_calls='[{"type": "function", "function": {"name": "weather", "arguments": {"at": "9"}}}]',
)
TOKEN_LIKE = re.compile(r"<[|｜][^<>|｜\s]+[|｜]>")
"""What looks like the name of a special token."""


class Probed(NamedTuple):
    ends: tuple[int, ...]
    """The ids that end an answer."""
    asks_for_reasoning: bool
    """Whether a prompt begins reasoning, without which no answer follows."""


def probed(template: ChatTemplate) -> Probed:
    """Raises UserError for a template that is refused."""
    text = _possible(lambda: template.text(CONVERSATION))
    absent = {*TOKEN_LIKE.findall(text)} - template.added.keys()
    if absent:
        raise unfit(f"the template writes {', '.join(sorted(absent))}, not in the vocabulary")
    turn, asks_for_reasoning = _answered(template, text)
    if template.has_marks and not any(template.marks([QUESTION, ANSWER])[turn.begin : turn.end]):
        raise unfit("the template's {% generation %} marks leave out the answer")
    ends = {turn.ids[turn.end - 1]: None}
    try:
        called = template.turn([QUESTION, CALL])
    except NotRendered:  # rows with calls are counted, each by its reason
        called = None
    if called is not None:  # Llama 3.1 has an end of its own for these
        ends[called.ids[called.end - 1]] = None
    return Probed(tuple(ends), asks_for_reasoning)


def _answered(template: ChatTemplate, text: str) -> tuple[Turn, bool]:
    """The turn of an answer, and whether it has to come with reasoning."""
    thought = message(ASSISTANT, ANSWER["content"], reasoning="Colours, then.")
    for answer in (ANSWER, thought):
        try:
            turn = template.turn([QUESTION, answer])
        except NotRendered as error:
            if str(error) == UNFINISHED:
                raise unfit(_without_end(text)) from error
            continue
        if turn is not None:
            return turn, answer is thought
    asked = template.text([QUESTION], asks=True)
    if template.text([QUESTION, ANSWER]).startswith(asked):
        raise unfit(
            f"the tokenizer parts {asked[-20:]!r}, which asks for an answer, otherwise where an "
            "answer follows"
        )
    raise unfit(
        f"the template asks for an answer by {asked[-20:]!r}, and begins none so in a conversation"
    )


def _without_end(text: str) -> str:
    """What is wrong with how the template ends an answer, by the text of CONVERSATION."""
    tail = text.rpartition(CONVERSATION[-1]["content"])[2].strip()
    if tail:
        return f"the template ends an answer by {tail!r}, which is no token to stop at"
    return (
        f"{UNFINISHED}: its end comes with the next message, so that a model would never learn to "
        "stop"
    )


def unfit(fault: str) -> UserError:
    return UserError(f"{KEY}: {fault}; name a file with a template that does not")


def _possible(render: Callable[[], Found]) -> Found:
    try:
        return render()
    except NotRendered as error:
        raise unfit(f"{error} (of a user's questions and their answers)") from error
