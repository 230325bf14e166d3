"""Rows of YAML: objects, and lists such as dialogues."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import first_columns, read
from trainers.corpora.reading.sources import parts

DIALOGUES = """\
categories:
- AI
conversations:
- - What is AI?
  - Made by people.
- - 你好
  - "是: 我"
  - 好
"""


def documents(tmp_path: Path, content: bytes, **keys: object) -> list[tuple[object, str]]:
    (tmp_path / "a.yml").write_bytes(content)
    source = Source(path=str(tmp_path / "a.yml")).model_copy(update=keys)
    found = [one for part in parts(source, "corpora.sources.x") for one in read(source, part)]
    return [(one.problem or one.values or one.text, one.where.rpartition("/")[2]) for one in found]


def test_lists_are_the_column_that_their_key_names(tmp_path: Path) -> None:
    columns = {"text": None, "messages": "conversations", "topic": "categories"}
    assert documents(tmp_path, DIALOGUES.encode(), columns=columns) == [
        ({"messages": ["What is AI?", "Made by people."], "topic": ["AI"]}, "a.yml:item 1"),
        ({"messages": ["你好", "是: 我", "好"], "topic": ["AI"]}, "a.yml:item 2"),
    ]
    known = first_columns(Source(path=str(tmp_path / "a.yml")), ())
    assert {*known} == {"categories", "conversations"}


def test_an_item_that_is_no_list_is_a_row_that_is_none(tmp_path: Path) -> None:
    slipped = DIALOGUES + "- Who? - I.\n"
    columns = {"text": None, "messages": "conversations"}
    *_, (values, where) = documents(tmp_path, slipped.encode(), columns=columns)
    assert (values, where) == ({"messages": "Who? - I."}, "a.yml:item 3")


@pytest.mark.parametrize(
    "content", ["- {text: 好}\n- {text: b}\n", "rows: [{text: 好}, {text: b}]"]
)
def test_objects_are_rows(tmp_path: Path, content: str) -> None:
    assert [text for text, _ in documents(tmp_path, content.encode())] == ["好", "b"]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    content = "- {text: 好}\n".encode("gb18030")
    ((problem, _),) = documents(tmp_path, content)
    assert "UTF-8" in str(problem)
    assert documents(tmp_path, content, encoding="gb18030") == [("好", "a.yml:item 1")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [1, 2]", "has one list of objects or lists, found none"),
        ("", "has one list of objects or lists, found none"),
        ("just a text", "has one list of objects or lists, found none"),
        ("a: [[1]]\nb: [[2]]", "found several of them: a, b"),
        ("a: [", "not YAML: "),
    ],
)
def test_what_has_no_rows_is_told(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        documents(tmp_path, content.encode())
