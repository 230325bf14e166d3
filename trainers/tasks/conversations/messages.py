"""Messages of a system, a user, an assistant and its tools, in any of the spellings that data sets
have them in, and whether a conversation of them can be learned."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

from trainers.corpora.reading.formats.rows import Problem

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


class Message(TypedDict):
    """A message of a conversation. What it lacks is an empty text."""

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
    or from texts that a user and an assistant say in turn; without empty ones of a system, by which
    data sets say that there is none. Raises ValueError."""
    value = parsed(value)
    if isinstance(value, list) and value and all(map(is_text, value)):
        return [message((USER, ASSISTANT)[turn % 2], said) for turn, said in enumerate(value)]
    if not isinstance(value, list):
        return value
    said = map(_message, value)
    return [one for one in said if one["role"] != SYSTEM or one["content"].strip()]


def are_messages(value: Any) -> bool:
    """Whether a value can be messages, and nothing else that a column could be called for."""
    return isinstance(value, list) and all(isinstance(one, Mapping | str) for one in value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def said_by(role: str) -> Callable[[Any], Any]:
    """Reads a value as `messages` does, but a text as one message of this role."""
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
