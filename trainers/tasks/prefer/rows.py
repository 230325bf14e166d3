"""Rows of preference: two answers to a prompt, of which one was chosen.

    prompt, chosen, rejected      texts, or messages; either answer may begin with the prompt
    chosen, rejected              whole conversations, which differ from some message on: messages,
                                  or texts of turns as `\\n\\nHuman: ...\\n\\nAssistant: ...`

All become `chosen` and `rejected`, whole conversations of which only the answers are learned. The
prompt of two conversations is found message by message, never character by character: what both
answers begin with, such as `<think>`, stays theirs (huggingface/trl#6433).
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator

from trainers.corpora.examples.task_rows import Role
from trainers.corpora.reading.formats.rows import Problem
from trainers.tasks.conversations.messages import (
    ASSISTANT,
    SYSTEM,
    USER,
    Message,
    message,
    problem_of_messages,
    said_by,
)
from trainers.tasks.conversations.rows import ConversationRows

if TYPE_CHECKING:
    from trainers.corpora.cleaning.documents import Normalizer

TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
"""What begins a turn of a transcript (Bai et al. 2022)."""
ROLE_OF_SPEAKER = {"Human": USER, "Assistant": ASSISTANT}


class Conversations(NamedTuple):
    """The prompt with either answer; of the prompt nothing is learned."""

    chosen: list[Message]
    rejected: list[Message]


def said(role: str) -> Callable[[Any], Any]:
    """Messages of a value, where a text is a transcript or one message of this role."""
    of_role = said_by(role)

    def messages(value: Any) -> Any:
        is_transcript = isinstance(value, str) and value.lstrip().startswith("Human:")
        return transcript(value) if is_transcript else of_role(value)

    return messages


def transcript(text: str) -> list[Message]:
    """The messages of a text of turns; an empty last one only asks for an answer."""
    _, *parts = TURN.split(text)
    turns = [
        message(ROLE_OF_SPEAKER[speaker], content.strip())
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns[:-1] if turns and not turns[-1]["content"] else turns


def conversations(row: Mapping[str, Any]) -> Conversations | Problem:
    """The two conversations of a row, or what is wrong with it. Pure."""
    chosen, rejected = row["chosen"], row["rejected"]
    if "prompt" in row:
        prompt = _with_system(row["prompt"], row)
        chosen, rejected = (_behind(prompt, one) for one in (chosen, rejected))
    else:
        chosen, rejected = (_with_system(one, row) for one in (chosen, rejected))
        prompt = chosen[: _common(chosen, rejected)]
    if not prompt:
        detail = "give a column `prompt`, or conversations that both begin with one"
        return Problem("two answers without a prompt", detail)
    answers = [one[len(prompt) :] for one in (chosen, rejected)]
    if answers[0] == answers[1]:
        return Problem("chosen and rejected are the same")
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        problem = problem_of_messages([*prompt, *answer])
        if not answer or answer[0]["role"] != ASSISTANT:
            problem = problem or Problem("no answer behind the prompt")
        if problem is not None:
            return problem._replace(detail=f"{name}: {problem.detail}".rstrip(": "))
    asked = [one | {"train": False} for one in prompt]
    return Conversations(*([*asked, *answer] for answer in answers))  # type: ignore[list-item]


def _with_system(messages: Sequence[Message], row: Mapping[str, Any]) -> list[Message]:
    system = row.get("system", "")
    return [message(SYSTEM, system), *messages] if system.strip() else [*messages]


def _behind(prompt: Sequence[Message], answer: Sequence[Message]) -> list[Message]:
    """The prompt with an answer, which may have begun with it already."""
    begins = [*answer[: len(prompt)]] == [*prompt]
    return [*answer] if begins else [*prompt, *answer]


def _common(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """How many messages are the prompt of both: those that are marked as not learned; else as many
    as are equal, but for an answer of each."""
    marked = [*itertools.takewhile(lambda one: not one["train"], chosen)]
    if marked and [*rejected[: len(marked)]] == marked:
        return len(marked)
    equal = 0
    most = min(len(chosen), len(rejected)) - 1
    while equal < most and chosen[equal] == rejected[equal]:
        equal += 1
    while equal > 0 and not chosen[equal]["role"] == rejected[equal]["role"] == ASSISTANT:
        equal -= 1
    return max(equal, 0)


class PreferenceRows(ConversationRows):
    """Rows as the module describes them."""

    roles: ClassVar[Mapping[str, Role]] = {
        "prompt": Role(
            "value",
            "what is answered: a text, or messages",
            Annotated[list[Message], BeforeValidator(said(USER))],
            is_kept=False,
        ),
        "chosen": Role(
            "value",
            "the better answer: a text, or messages",
            Annotated[list[Message], BeforeValidator(said(ASSISTANT))],
        ),
        "rejected": Role(
            "value",
            "the other one",
            Annotated[list[Message], BeforeValidator(said(ASSISTANT))],
        ),
        "system": ConversationRows.roles["system"],
        "tools": ConversationRows.roles["tools"],
    }
    row_forms: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("prompt", "chosen", "rejected"),
        ("chosen", "rejected"),
    )

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        found = conversations(row)
        return found if isinstance(found, Problem) else None

    def cleaned(self, row: Mapping[str, Any], clean: "Normalizer") -> dict[str, Any]:
        found = conversations(row)
        assert isinstance(found, Conversations)
        tools = row.get("tools", "")
        chosen, rejected = (
            super(PreferenceRows, self).cleaned({"messages": one, "tools": tools}, clean)
            for one in found
        )
        both = {"chosen": chosen["messages"], "rejected": rejected["messages"]}
        return {**both, "tools": chosen["tools"]}

    def text_of(self, row: Mapping[str, Any]) -> str:
        """The prompt and both answers."""
        answer = [one for one in row["rejected"] if one["train"]]
        both = ([*row["chosen"]], answer)
        return "\n".join(super(PreferenceRows, self).text_of({"messages": one}) for one in both)

    def prompt_of(self, row: Mapping[str, Any]) -> str | None:
        """What the first answers that differ answer."""
        asked = [*itertools.takewhile(lambda one: not one["train"], row["chosen"])]
        return super().prompt_of({**row, "messages": row["chosen"][: len(asked) + 1]})
