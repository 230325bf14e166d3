"""Rows of conversations: messages of a system, a user, an assistant and its tools, in any of the
forms that data sets have them in. All of them become `messages` and `tools`.

    messages, tools                          OpenAI's, Transformers': {role, content, tool_calls,
                                             reasoning_content, ...}, where `train: false` or
                                             `weight: 0` keeps an answer from being learned
    conversations, system, tools             ShareGPT's: {from: human, value: ...}; or texts that a
                                             user and an assistant say in turn
    prompt, completion                       TRL's: two texts, or messages to be answered and the
                                             answer
    instruction, input, output, system       Alpaca's
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator

from trainers.corpora.examples.task_rows import Role, TaskRows
from trainers.corpora.reading.formats.rows import Problem
from trainers.tasks.conversations.messages import (
    ASSISTANT,
    SYSTEM,
    USER,
    Message,
    are_messages,
    as_json,
    is_text,
    message,
    messages,
    problem_of_messages,
    said_by,
    tools_of,
)

if TYPE_CHECKING:
    from trainers.corpora.cleaning.documents import Normalizer

BEHIND = "messages behind the last answer, which are not read"


class ConversationRows(TaskRows):
    """Rows as the module describes them."""

    roles: ClassVar[Mapping[str, Role]] = {
        "messages": Role(
            "value",
            "a conversation: a list of {role, content}, where role is system, user, assistant or "
            "tool; or ShareGPT's of {from, value}",
            Annotated[list[Message], BeforeValidator(messages)],
            also=dict.fromkeys(("conversations", "conversation", "dialogue"), are_messages),
        ),
        "prompt": Role(
            "value",
            "or what is to be answered: a text, or messages",
            Annotated[list[Message], BeforeValidator(said_by(USER))],
            is_kept=False,
            also={"instruction": is_text, "question": is_text},
        ),
        "completion": Role(
            "value",
            "with its answer: a text, or messages",
            Annotated[list[Message], BeforeValidator(said_by(ASSISTANT))],
            is_kept=False,
            also=dict.fromkeys(("output", "response", "answer"), is_text),
        ),
        "input": Role("value", "what stands below a prompt", str, is_kept=False, is_optional=True),
        "system": Role(
            "value", "what stands before a conversation", str, is_kept=False, is_optional=True
        ),
        "tools": Role(
            "value",
            "tools that the assistant may call: a list of JSON schemas",
            Annotated[str, BeforeValidator(tools_of)],
            is_optional=True,
        ),
    }
    row_forms: ClassVar[tuple[tuple[str, ...], ...]] = (("messages",), ("prompt", "completion"))

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        return problem_of_messages(to_last_answer(conversation(row)))

    def cleaned(self, row: Mapping[str, Any], clean: "Normalizer") -> dict[str, Any]:
        said = conversation(row)
        answered = to_last_answer(said)
        clean.note(BEHIND, len(said) - len(answered))
        mended = [
            one
            | {
                "content": clean.mend(one["content"]),
                "reasoning": clean.mend(one["reasoning"]),
                "tool_calls": _mended_json(one["tool_calls"], clean),
            }
            for one in answered
        ]
        return {"messages": mended, "tools": _mended_json(row.get("tools", ""), clean)}

    def text_of(self, row: Mapping[str, Any]) -> str:
        """What was said, but for a system's message and tools, which many rows have in common: rows
        that differ in these alone are one."""
        return _spoken(row["messages"])

    def annotations(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing: all that is learned is in the text."""
        return {}

    def prompt_of(self, row: Mapping[str, Any]) -> str | None:
        """What the last answer answers: all that was said before, and the tools that there are."""
        asked = row["messages"][:-1]
        system = [one["content"] for one in asked if one["role"] == SYSTEM]
        return "\n".join([*system, row["tools"], _spoken(asked)])


def _spoken(messages: Sequence[Message]) -> str:
    said = (
        one[key]
        for one in messages
        if one["role"] != SYSTEM
        for key in ("reasoning", "content", "tool_calls")
    )
    return "\n".join(filter(None, said))


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """The messages of a row in any form."""
    if "messages" in row:
        said = row["messages"]
    else:
        said = [*_with_input(row["prompt"], row.get("input", "")), *row["completion"]]
    system = row.get("system", "")
    return [message(SYSTEM, system), *said] if system.strip() else [*said]


def to_last_answer(messages: Sequence[Message]) -> list[Message]:
    """The messages up to the last answer, as nothing is learned from those behind it; all of them
    where there is no answer."""
    answers = [place for place, one in enumerate(messages, 1) if one["role"] == ASSISTANT]
    return [*messages[: answers[-1] if answers else None]]


def _with_input(prompt: Sequence[Message], below: str) -> list[Message]:
    if not below.strip() or not prompt:
        return [*prompt]
    *before, last = prompt
    return [*before, message(last["role"], f"{last['content']}\n{below}")]


def _mended_json(text: str, clean: "Normalizer") -> str:
    """JSON whose texts are mended, but for its keys."""
    return as_json(_mended(json.loads(text), clean)) if text else ""


def _mended(value: Any, clean: "Normalizer") -> Any:
    match value:
        case str():
            return clean.mend(value)
        case list():
            return [_mended(one, clean) for one in value]
        case dict():
            return {key: _mended(one, clean) for key, one in value.items()}
    return value
