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
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator
from typing_extensions import TypedDict

from trainers.corpora.examples.task_rows import Role, TaskRows
from trainers.corpora.reading.formats.rows import Problem

if TYPE_CHECKING:
    from trainers.corpora.cleaning.documents import Normalizer

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
SPEAKERS = {
    SYSTEM: (SYSTEM, "developer"),
    USER: (USER, "human"),
    ASSISTANT: (ASSISTANT, "gpt", "bot", "model", "function_call"),
    TOOL: (TOOL, "observation", "function", "function_response", "ipython"),
}
"""What data sets call a role."""
ROLE_OF = {name: role for role, names in SPEAKERS.items() for name in names}
SPELLINGS = {
    "role": ("role", "from"),
    "content": ("content", "value"),
    "reasoning": ("reasoning", "reasoning_content", "thinking"),
    "tool_calls": ("tool_calls", "function_call"),
    "tool_call_id": ("tool_call_id",),
    "name": ("name",),
    "train": ("train", "weight"),
}
"""What data sets call a key of a message."""
FOLLOWS = {
    "": (SYSTEM, USER),
    SYSTEM: (USER,),
    USER: (ASSISTANT,),
    ASSISTANT: (USER, TOOL),
    TOOL: (TOOL, ASSISTANT),
}
"""The roles that may come behind a role, and at the beginning."""


BEHIND = "messages behind the last answer, which are not read"


class Message(TypedDict):
    """What a message lacks is an empty text."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    reasoning: str
    """What an assistant thinks before it answers."""
    tool_calls: str
    """JSON: a list of `{id, type: function, function: {name, arguments}}`, the arguments an
    object."""
    tool_call_id: str
    name: str
    train: bool
    """Whether an assistant's message is learned."""


def message(
    role: str,
    content: str,
    *,
    reasoning: str = "",
    tool_calls: str = "",
    tool_call_id: str = "",
    name: str = "",
    train: bool = True,
) -> Message:
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=tool_calls,
        tool_call_id=tool_call_id,
        name=name,
        train=train,
    )


def messages(value: Any) -> Any:
    """Messages as pydantic checks them, from a list in one of the known spellings, or JSON of such;
    or from texts that a user and an assistant say in turn. Raises ValueError."""
    value = parsed(value)
    if isinstance(value, list) and value and all(map(is_text, value)):
        return [message((USER, ASSISTANT)[turn % 2], said) for turn, said in enumerate(value)]
    return [_message(one) for one in value] if isinstance(value, list) else value


def are_messages(value: Any) -> bool:
    """Whether a value can be messages, and nothing else that a column could be called for."""
    return isinstance(value, list) and all(isinstance(one, Mapping | str) for one in value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def said_by(role: str) -> Callable[[Any], Any]:
    """The same, where a text is one message of this role."""
    return lambda value: [message(role, value)] if isinstance(value, str) else messages(value)


def tools_of(value: Any) -> str:
    """JSON of tools, each `{type: function, function: {name, description, parameters}}`; empty
    where there are none. Raises ValueError."""
    value = parsed(value) or []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise ValueError(f"{value!r:.80} is no list of tools")
    named = [one if "function" in one else {"type": "function", "function": one} for one in value]
    return as_json(named) if named else ""


def parsed(value: Any) -> Any:
    """What JSON says; other values as they are. Raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"{value!r:.80} is no JSON") from None


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _message(value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r:.80} is no message")
    found = {
        key: value[name]
        for key, names in SPELLINGS.items()
        for name in names[::-1]
        if value.get(name) is not None
    }
    called = found.get("role")
    called = called.lower() if isinstance(called, str) else called
    if not isinstance(called, str) or called not in ROLE_OF:
        raise ValueError(f"{called!r} is no role; there are {', '.join(ROLE_OF)}")
    train = found.get("train", True)
    if train not in (True, False):
        raise ValueError(f"train is {train!r:.80}, and not true or false")
    content, calls = found.get("content"), found.get("tool_calls")
    if called == "function_call":
        content, calls = "", content
    return message(
        ROLE_OF[called],
        _text(content, ROLE_OF[called]),
        reasoning=found.get("reasoning", ""),
        tool_calls=_calls(calls),
        tool_call_id=found.get("tool_call_id", ""),
        name=found.get("name", ""),
        train=bool(train),
    )


def _text(content: Any, role: str) -> str:
    match content:
        case None:
            return ""
        case str():
            return content
        case list() if all(map(_is_text_part, content)):
            return "".join(part["text"] for part in content)
        case _ if role == TOOL:  # what a tool returns may be any value
            return as_json(content)
    raise ValueError(f"{content!r:.80} is no text, which is all that can be learned")


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def _calls(calls: Any) -> str:
    calls = parsed(calls)
    listed = [calls] if isinstance(calls, Mapping) else calls
    if listed and not isinstance(listed, list):
        raise ValueError(f"{listed!r:.80} are no calls of tools, which are a list")
    return as_json([_call(call) for call in listed]) if listed else ""


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{call!r:.80} is no call of a tool: {{name, arguments}}")
    arguments = parsed(function.get("arguments")) or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{arguments!r:.80} are no arguments of a tool, which are an object")
    id_ = {"id": call["id"]} if call.get("id") else {}
    named = {"name": function["name"], "arguments": arguments}
    return {**id_, "type": "function", "function": named}


def problem_of_messages(messages: Sequence[Message]) -> Problem | None:
    """Why a conversation cannot be learned, or None."""
    before = ""
    for number, one in enumerate(messages, 1):
        role, is_empty = one["role"], not (one["content"].strip() or one["tool_calls"])
        if role not in FOLLOWS[before]:
            detail = f"message {number} is of role {role}, after {before or 'none'}"
            return Problem("roles out of order", detail)
        if role == TOOL and before == ASSISTANT and not messages[number - 2]["tool_calls"]:
            return Problem("an answer of a tool that was not called", f"message {number}")
        if is_empty and role in (USER, ASSISTANT):
            kind = "an empty answer" if role == ASSISTANT else "an empty message"
            return Problem(kind, f"message {number}")
        before = role
    if before != ASSISTANT:
        return Problem("no answer at the end", f"the last role is {before or 'none'}")
    if not any(one["train"] for one in messages if one["role"] == ASSISTANT):
        return Problem("no answer that is to be learned")
    return None


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
        """What was said. A system's message and tools are not, which many rows have in common: rows
        that differ in these alone are one."""
        return _spoken(row["messages"])

    def annotations(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """None: all that is learned is in the text."""
        return {}

    def prompt_of(self, row: Mapping[str, Any]) -> str | None:
        """What the last answer is to: all that was said before, and the tools that there are."""
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
    """Without what is behind the last answer, which nothing is learned from; all where there is
    none."""
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
