"""Calls of tools and reasoning, by OpenAI's own client."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.writers import save_writer

TEMPLATE = (
    "{% if tools %}[CLS]tools\n{{ tools | tojson }}[SEP]{% endif %}"
    "{% for message in messages %}[CLS]{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "[SEP]{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
ASKED: Any = [{"role": "user", "content": "Where is it warm?"}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("weather", city={"enum": ["Rome", "Oslo"]}, days={"type": "integer", "maximum": 9}),
    tool("clock", zone={"type": "string", "maxLength": 3}),
]


@pytest.fixture(scope="module")
def client(
    served: Callable[..., openai.OpenAI], tmp_path_factory: pytest.TempPathFactory, tokenizer: Any
) -> openai.OpenAI:
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("caller")
    return served(save_writer(folder, tokenizer, "chat", max_positions=2048))


def chat(client: openai.OpenAI, **more: Any) -> Any:
    asked = {"model": "demo", "messages": ASKED, "tools": TOOLS, "temperature": 1, **more}
    return client.chat.completions.create(max_tokens=230, **asked)


def checked(call: Any) -> str:
    """The name of a call whose arguments are of its schema."""
    arguments = json.loads(call.function.arguments)
    if call.function.name == "weather":
        assert arguments["city"] in ("Rome", "Oslo")
        assert isinstance(arguments["days"], int)
    else:
        assert len(arguments["zone"]) <= 3
    name: str = call.function.name
    return name


@pytest.mark.parametrize("seed", range(4))
def test_a_call_that_must_come_comes(client: openai.OpenAI, seed: int) -> None:
    answer = chat(client, tool_choice="required", parallel_tool_calls=False, seed=seed)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert checked(call) in ("weather", "clock")
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


def test_a_tool_that_is_named_is_called(client: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    (choice,) = chat(client, tool_choice=named).choices
    assert [*map(checked, choice.message.tool_calls)] == ["clock"]
    assert choice.finish_reason == "stop", "as OpenAI has it"


def test_calls_in_a_stream_are_those_of_the_whole(client: openai.OpenAI) -> None:
    more = {"tool_choice": "required", "parallel_tool_calls": False, "seed": 3}
    (whole,) = chat(client, **more).choices[0].message.tool_calls
    arguments, names, ends = "", [], []
    for chunk in chat(client, stream=True, **more):
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.index == 0
            names.append(call.function.name)
            arguments += call.function.arguments
        ends.append(chunk.choices[0].finish_reason)
    assert (names, arguments) == ([whole.function.name], whole.function.arguments)
    assert ends[-1] == "tool_calls"


def test_a_call_that_is_cut_is_told_as_length(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": ASKED, "tools": TOOLS, "max_tokens": 12}
    (choice,) = client.chat.completions.create(**asked, tool_choice="required").choices
    assert choice.finish_reason == "length"
    assert not choice.message.tool_calls
    again = [*ASKED, {"role": "assistant", "content": choice.message.content}, *ASKED]
    assert client.chat.completions.create(**{**asked, "messages": again}).choices


@pytest.mark.parametrize("content", [None, "", "Let me see."])
@pytest.mark.parametrize("answer", ["It is warm.", [{"type": "text", "text": "It is warm."}]])
def test_a_conversation_goes_on_behind_a_call(
    client: openai.OpenAI, content: str | None, answer: Any
) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome", "days": 2}'},
    }
    called = {"role": "assistant", "content": content, "tool_calls": [call]}
    told = {"role": "tool", "tool_call_id": "call_1", "content": answer}
    assert chat(client, messages=[*ASKED, called, told], tool_choice="none").choices


def test_an_answer_as_a_client_has_it_can_be_sent_back(client: openai.OpenAI) -> None:
    message = chat(client, tool_choice="required", seed=1).choices[0].message
    told = [
        {"role": "tool", "tool_call_id": call.id, "content": "7"} for call in message.tool_calls
    ]
    assert chat(client, messages=[*ASKED, message.model_dump(), *told]).choices
    assert chat(client, messages=[*ASKED, message, *told]).choices


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "there are weather",
        ),
        (
            {"tool_choice": "required", "response_format": {"type": "json_object"}},
            "tool_choice",
            "does not go with",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0", "pattern"),
        ({"tools": [{"type": "code"}]}, "tools.0", "type"),
        (
            {"messages": [*ASKED, {"role": "tool", "tool_call_id": "1", "content": "x"}]},
            "messages",
            "out of order",
        ),
    ],
)
def test_wrong_tools_are_refused(client: openai.OpenAI, more: Any, param: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as told:
        chat(client, **more)
    assert str(told.value.param).startswith(param)


def test_a_template_without_calls_cannot_be_made_to_call(
    served: Callable[..., openai.OpenAI], chat_folder: Path
) -> None:
    with pytest.raises(openai.BadRequestError, match="template"):
        chat(served(chat_folder), tool_choice="required")
