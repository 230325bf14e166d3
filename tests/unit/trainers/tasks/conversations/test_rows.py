"""Rows of conversations in every form, with what is wrong with some, and what cleaning leaves."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, first_columns, read
from trainers.corpora.reading.sources import Part
from trainers.tasks.conversations.messages import Message, message
from trainers.tasks.conversations.rows import ConversationRows

ROWS = ConversationRows()


def checked(**values: Any) -> Document:
    (document,) = ROWS.checked([Document("", None, "a:1", values=values)])
    return document


def cleaned(clean: Clean | None = None, **values: Any) -> Document:
    document = checked(**values)
    assert document.problem is None, document.problem
    return ROWS.cleaned_document(document, Normalizer(clean or Clean(), Counts()))


def said(**values: Any) -> list[Message]:
    found: list[Message] = cleaned(**values).values["messages"]
    return found


def openai(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]


WHO = [message("user", "Who?"), message("assistant", "I.")]
BRIEF = message("system", "Be brief.")


def test_examples_have_messages_and_tools() -> None:
    schema = ROWS.example_schema
    assert schema.names == ["id", "text", "group", "source", "messages", "tools"]
    text = pa.large_string()
    keys = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name")
    of_message = pa.struct([*((key, text) for key in keys), ("train", pa.bool_())])
    assert schema.field("messages").type == pa.list_(of_message)
    assert schema.field("tools").type == text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": openai("Who?", "I.")}, WHO),
        ({"messages": json.dumps(openai("Who?", "I."))}, WHO),
        (
            {"messages": [{"role": "User", "content": "Who?"}, {"role": "GPT", "content": "I."}]},
            WHO,
        ),
        (
            {"messages": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]},
            WHO,
        ),
        ({"messages": openai("Who?", "I."), "system": "Be brief."}, [BRIEF, *WHO]),
        ({"messages": openai("Who?", "I."), "system": " "}, WHO),
        ({"messages": [{"role": "system", "content": ""}, *openai("Who?", "I.")]}, WHO),
        ({"messages": [{"from": "system", "value": "\n"}, *openai("Who?", "I.")]}, WHO),
        (
            {
                "messages": [{"role": "system", "content": None}, *openai("Who?", "I.")],
                "system": "Be brief.",
            },
            [BRIEF, *WHO],
        ),
        (
            {"prompt": [{"role": "system", "content": ""}, *openai("Who?")], "completion": "I."},
            WHO,
        ),
        ({"prompt": "Who?", "completion": "I."}, WHO),
        ({"prompt": openai("Who?"), "completion": "I."}, WHO),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}],
                "completion": [{"role": "assistant", "content": "I."}],
            },
            WHO,
        ),
        ({"prompt": "Who?", "input": "", "completion": "I."}, WHO),
        (
            {"prompt": "Translate:", "input": "Ja.", "completion": "Yes.", "system": "Be brief."},
            [BRIEF, message("user", "Translate:\nJa."), message("assistant", "Yes.")],
        ),
    ],
)
def test_all_forms_become_messages(values: Mapping[str, Any], expected: list[Message]) -> None:
    assert said(**values) == expected
    assert cleaned(**values).values["tools"] == ""


def test_calls_and_answers_of_tools_are_read_as_openai_and_sharegpt_write_them() -> None:
    function = {"name": "weather", "arguments": '{"at": "Oslo"}'}
    calls = [{"id": "1", "type": "function", "function": function}]
    of_openai = [
        {"role": "user", "content": "Cold?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": {"degrees": -3}, "tool_call_id": "1", "name": "weather"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "It is -3."},
    ]
    user, called, returned, answered = said(messages=of_openai)
    assert user == message("user", "Cold?")
    named = {"name": "weather", "arguments": {"at": "Oslo"}}
    assert json.loads(called["tool_calls"]) == [{"id": "1", "type": "function", "function": named}]
    assert returned == message("tool", '{"degrees": -3}', tool_call_id="1", name="weather")
    assert answered == message("assistant", "Yes.", reasoning="It is -3.")
    of_sharegpt = [
        {"from": "human", "value": "Cold?"},
        {"from": "function_call", "value": json.dumps(function)},
        {"from": "observation", "value": "-3"},
        {"from": "gpt", "value": "Yes."},
    ]
    _, called, returned, _ = said(messages=of_sharegpt)
    assert json.loads(called["tool_calls"]) == [{"type": "function", "function": named}]
    assert (called["content"], returned["role"]) == ("", "tool")


def test_tools_are_json_whatever_they_were() -> None:
    bare = {"name": "weather", "parameters": {}}
    wrapped = {"type": "function", "function": bare}
    for tools in ([bare], [wrapped], json.dumps([bare])):
        values = cleaned(messages=openai("Who?", "I."), tools=tools).values
        assert json.loads(values["tools"]) == [wrapped]
    assert cleaned(messages=openai("Who?", "I."), tools="").values["tools"] == ""


def test_an_answer_may_be_kept_from_being_learned() -> None:
    first = {"role": "assistant", "content": "No.", "train": False}
    second = {"role": "assistant", "content": "Nor this.", "weight": 0}
    asked = {"role": "user", "content": "Why?"}
    made = said(messages=[asked, first, asked, second, *openai("Why?", "So.")])
    assert [one["train"] for one in made if one["role"] == "assistant"] == [False, False, True]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"messages": []}, "no answer at the end: the last role is none"),
        ({"messages": openai("Who?", " ")}, "an empty answer: message 2"),
        ({"messages": openai("", "I.")}, "an empty message: message 1"),
        ({"messages": openai("Who?")}, "no answer at the end: the last role is user"),
        ({"messages": openai("Who?", "I.")[1:]}, "roles out of order: message 1"),
        ({"messages": [*openai("Who?"), *openai("Who?", "I.")]}, "roles out of order: message 2"),
        (
            {
                "messages": [
                    *openai("Who?", "I."),
                    {"role": "tool", "content": "1"},
                    {"role": "assistant", "content": "So."},
                ]
            },
            "an answer of a tool that was not called: message 3",
        ),
        (
            {"messages": [*openai("Who?"), {**openai("", "I.")[1], "train": False}]},
            "no answer that is to be learned",
        ),
        ({"messages": "Who?"}, "'Who?' is no JSON"),
        ({"messages": [1]}, "1 is no message"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "'narrator' is no role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "is no role"),
        (
            {"messages": [*openai("Who?"), {**openai("", "I.")[1], "train": "false"}]},
            "train is 'false', and not true or false",
        ),
        (
            {"messages": [*openai("Who?"), {"role": "assistant", "tool_calls": 5}]},
            "5 are no calls of tools",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "is no text, which is all that can be learned",
        ),
        (
            {"messages": [*openai("Who?"), {"role": "assistant", "tool_calls": [{"name": 1}]}]},
            "is no call of a tool",
        ),
        (
            {
                "messages": [
                    *openai("Who?"),
                    {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]},
                ]
            },
            "is no JSON",
        ),
        ({"messages": openai("Who?", "I."), "tools": "weather"}, "'weather' is no JSON"),
        ({"messages": openai("Who?", "I."), "tools": [1]}, "is no list of tools"),
    ],
)
def test_what_is_wrong_with_a_row_is_its_problem(values: Mapping[str, Any], says: str) -> None:
    document = checked(**values)
    assert document.text is None
    assert says in str(document.problem)


LAYOUT = "Like this:\n\n```python\ndef f(x):\n\treturn x  # 全角，x² ≤ ½\n```\n| a |  b |\nsign in"


def test_cleaning_leaves_layout_and_signs() -> None:
    """NFKC, single spaces and no boilerplate are for running text: they would change what an answer
    says."""
    clean = Clean(boilerplate=True)
    made = said(clean=clean, messages=openai(LAYOUT, LAYOUT))
    assert [one["content"] for one in made] == [LAYOUT, LAYOUT]


def test_cleaning_mends_what_nobody_sees() -> None:
    clean = Clean(mojibake=True, mask=("email",))
    arguments = {"to": "ann@example.org", "copies": 2}
    called = {"role": "assistant", "tool_calls": [{"name": "send", "arguments": arguments}]}
    made = said(
        clean=clean,
        messages=[
            {"role": "user", "content": "Cafe\u0301\u200b\r\nå¾ˆå¥½ ann@example.org"},
            called,
        ],
    )
    assert made[0]["content"] == "Café\n很好 <EMAIL>"
    (call,) = json.loads(made[1]["tool_calls"])
    assert call["function"]["arguments"] == {"to": "<EMAIL>", "copies": 2}


def test_rows_are_compared_by_what_was_said() -> None:
    plain = cleaned(messages=openai("Who?", "I."))
    assert plain.text == "Who?\nI."
    assert cleaned(messages=openai("Who?", "I."), system="Be brief.").text == plain.text
    called = {"role": "assistant", "tool_calls": [{"name": "f"}], "reasoning": "Hm."}
    text = cleaned(messages=[*openai("Who?"), called]).text
    assert text is not None
    assert text.startswith("Who?\nHm.\n[{")


@pytest.mark.parametrize(
    "rows",
    [
        [{"messages": openai("Who?", "I.")}] * 2,
        [
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]},
            {"conversations": openai("Who?", "I.")},
        ],
        [{"instruction": "Who?", "input": "", "output": "I."}],
        [{"instruction": "Who?", "output": "I."}],
        [{"question": "Who?", "answer": "I."}],
        [{"prompt": "Who?", "completion": "I.", "prompt_id": 7}],
        # Some rows have tools and a system, others none.
        [
            {"messages": openai("Who?", "I.")},
            {"messages": openai("Who?", "I."), "tools": None, "system": None},
            {"messages": openai("Who?", "I."), "tools": [{"name": "f"}], "system": ""},
        ],
    ],
)
def test_rows_are_known_by_their_columns(rows: list[dict[str, Any]], tmp_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    source = Source(path=str(path))
    known = first_columns(source, ROWS.roles)
    named = source.of_examples(known, ROWS.forms, ROWS.also_called(known), ROWS.optional_roles)
    assert named is not None
    documents = [*ROWS.checked(read(named, Part(str(path)), ROWS.optional_roles))]
    assert [document.problem for document in documents] == [None] * len(rows)
    clean = Normalizer(Clean(), Counts())
    made = [ROWS.cleaned_document(document, clean) for document in documents]
    assert [one.values["messages"] for one in made] == [WHO] * len(rows)
    assert [bool(one.values["tools"]) for one in made] == [bool(row.get("tools")) for row in rows]
