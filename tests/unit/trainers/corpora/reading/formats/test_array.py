"""A JSON array of objects is read as rows, wherever it lies and however it is written."""

import bz2
import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats import array as arrays
from trainers.corpora.reading.readers import Document, every_text, read
from trainers.corpora.reading.sources import Part, parts

ROWS = [{"text": '很好 "[{,}]" \\', "label": 1}, {"text": "two", "label": 2, "more": [{"a": []}]}]
KEY = "corpora.sources.x"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(part_bytes: int = 1 << 30, **source: Any) -> list[Document]:
    made = Source(**source)
    return [d for part in parts(made, KEY, part_bytes) for d in read(made, part)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("before", ["", "\ufeff", " \n"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.json.bz2", "a.tar"])
def test_the_items_of_an_array_are_rows(
    monkeypatch: pytest.MonkeyPatch, name: str, before: str, ascii_only: bool, indent: int | None
) -> None:
    """huggingface/datasets#1784"""
    content = (before + json.dumps(ROWS, ensure_ascii=ascii_only, indent=indent)).encode()
    match Path(name).suffix:
        case ".gz":
            Path(name).write_bytes(gzip.compress(content))
        case ".bz2":
            Path(name).write_bytes(bz2.compress(content))
        case ".tar":
            Path("in.json").write_bytes(content)
            with tarfile.open(name, "w") as tar:
                tar.add("in.json")
        case _:
            Path(name).write_bytes(content)
    for piece in (1, 7, 1 << 20):
        monkeypatch.setattr(arrays, "PIECE_CHARACTERS", piece)
        found = documents(path=name, columns={"label": "label"})
        assert [(d.text, d.label) for d in found] == [(ROWS[0]["text"], "1"), ("two", "2")]
    where = f"{name}/in.json" if name == "a.tar" else name
    assert found[1].where == f"{Path.cwd()}/{where}:item 2"


def test_an_array_is_one_part_and_lines_are_several() -> None:
    Path("a.json").write_text(json.dumps(ROWS))
    assert parts(Source(path="a.json"), KEY, 10) == [Part(str(Path("a.json").absolute()))]
    Path("a.json").write_text("\n".join(map(json.dumps, ROWS)))
    assert len(parts(Source(path="a.json"), KEY, 10)) > 1
    assert [d.text for d in documents(10, path="a.json")] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_may_be_the_one_value_of_an_object(indent: int | None) -> None:
    Path("a.json").write_text(json.dumps({"data": ROWS}, indent=indent))
    assert [d.text for d in documents(path="a.json")] == [row["text"] for row in ROWS]
    more = {"train": ROWS, "test": ROWS}
    Path("a.json").write_text(json.dumps(more, indent=2))
    with pytest.raises(UserError, match="an object with more than one key; write its array"):
        documents(path="a.json")


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_value_of_a_line_may_be_an_array(count: int) -> None:
    line = json.dumps({"entities": [{"at": 1}], "text": "a"})
    Path("a.json").write_text(f"{line}\n" * count)
    assert [d.text for d in documents(path="a.json")] == ["a"] * count


def test_an_object_on_several_lines_is_told_of() -> None:
    Path("a.json").write_text(json.dumps(ROWS[0], indent=2))
    first, *_ = documents(path="a.json")
    assert "a row is a line, unless the file is an array" in str(first.problem)


def test_an_array_of_nothing_has_no_rows() -> None:
    Path("a.json").write_text("[\n]\n")
    assert documents(path="a.json") == []


def test_an_item_that_is_no_row_is_one_row() -> None:
    Path("a.json").write_text('[{"text": "a"}, 3, [1], {"text": "\\ud800"}, null, {"text": "b"}]')
    found = documents(path="a.json")
    assert [d.text for d in found] == ["a", None, None, None, None, "b"]
    reasons = [d.problem.reason for d in found if d.problem is not None]
    assert [*dict.fromkeys(reasons)] == ["not an object with columns", "not JSON"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"text": "a"}, {"text": "b', "a.json:item 2: not JSON: "),
        ('[{"text": "a"}', "a.json:item 1: not JSON: the array does not go on with ','"),
        (
            '[{"text": "a"} {"text": "b"}]',
            "a.json:item 2: not JSON: the array does not go on with ','",
        ),
        (
            '[{"text": "a"}]\n[{"text": "b"}]',
            "a.json:item 2: not JSON: the array does not go on with ','",
        ),
        ('[{"a": ' + "[" * 100_000, "a.json:item 1: not JSON: nested too deep"),
    ],
)
def test_what_is_no_array_is_refused(content: str, says: str) -> None:
    Path("a.json").write_text(content)
    with pytest.raises(UserError) as caught:
        documents(path="a.json")
    assert says in str(caught.value)


def test_a_long_item_is_a_row_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.corpora.reading.formats.rows.MAX_ROW_BYTES", 64)
    Path("a.json").write_text(json.dumps([{"text": "x" * 99}, {"text": "y"}]))
    first, second = documents(path="a.json")
    assert first.problem is not None
    assert first.problem.reason.startswith("row over")
    assert second.text == "y"


def test_every_text_of_an_array_is_read() -> None:
    Path("a.json").write_text(json.dumps(ROWS))
    assert list(every_text("a.json", KEY)) == [ROWS[0]["text"], "two"]
