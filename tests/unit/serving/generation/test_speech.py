"""What an assistant thinks, says and calls is told apart, wherever its text is cut."""

import json
from collections.abc import Sequence

import pytest

from serving.generation.speech import Call, Said, Speech, call_of

TEMPLATE = "... <think> ... <tool_call> ..."
CALL = '\n{"name": "weather", "arguments": {"city": "Rom <b>"}}\n'


def told(
    text: str, size: int, template: str = TEMPLATE, asks: bool = False, tools: bool = True
) -> list[Said]:
    """In pieces of so many characters; what is of one channel behind each other, together."""
    speech = Speech(template, asks, tools)
    said: list[Said] = []
    for place in range(0, len(text), size):
        said += speech.add(text[place : place + size])
    together: list[Said] = []
    for one in [*said, *speech.end()]:
        if together and together[-1].channel == one.channel != "call":
            together[-1] = Said(one.channel, together[-1].text + one.text)
        else:
            together.append(one)
    return together


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain < text <thin", [("content", "plain < text <thin")]),
        (
            "<think>\nhm <tool_call> </think>\n\nYes.",
            [("reasoning", "hm <tool_call> "), ("content", "Yes.")],
        ),
        (
            f"Let me see.<tool_call>{CALL}</tool_call>",
            [("content", "Let me see."), ("call", CALL)],
        ),
        (
            f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
            [("call", CALL), ("call", CALL)],
        ),
        ("<tool_call>\n{cut", [("content", "<tool_call>\n{cut")]),
        ("<think>cut", [("reasoning", "cut")]),
    ],
)
def test_channels(text: str, size: int, expected: Sequence[tuple[str, str]]) -> None:
    assert told(text, size) == [Said(*one) for one in expected]  # type: ignore[arg-type]


def test_a_prompt_may_have_begun_reasoning() -> None:
    found = told("hm</think>Yes.", 3, asks=True)
    assert found == [Said("reasoning", "hm"), Said("content", "Yes.")]


def test_marks_that_the_template_does_not_have_are_text() -> None:
    text = f"<think>a</think><tool_call>{CALL}</tool_call>"
    assert told(text, 5, template="plain") == [Said("content", text)]
    without_tools = told(text, 5, tools=False)
    assert without_tools[0] == Said("reasoning", "a")
    assert without_tools[1] == Said("content", f"<tool_call>{CALL}</tool_call>")


def test_a_call_is_json_with_a_name() -> None:
    found = call_of(CALL)
    assert found is not None
    assert (found.name, json.loads(found.arguments)) == ("weather", {"city": "Rom <b>"})
    assert call_of('{"name": "now"}') == Call("now", "{}")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"name": 1}', '{"name": "a", "arguments": 2}']
)
def test_what_is_no_call_is_told_so(text: str) -> None:
    assert call_of(text) is None
