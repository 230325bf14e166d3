"""CSV and its like: the delimiter is found from the header, or named."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.delimited import delimiter_of
from trainers.corpora.reading.readers import Document, every_text, first_columns, read
from trainers.corpora.reading.sources import parts

KEY = "corpora.sources.x"
WANTED = {"text": "text", "label": "label"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(**source: Any) -> list[Document]:
    made = Source(**source)
    return [d for part in parts(made, KEY) for d in read(made, part)]


def labelled(**source: Any) -> list[tuple[str | None, str | None]]:
    return [(d.text, d.label) for d in documents(**source, columns={"label": "label"})]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.tab", "a.tsv.gz", "a.zip", "a.data"])
def test_a_delimiter_is_found(name: str, delimiter: str) -> None:
    """protvista#276"""
    rows = [("text", "label"), ("fine, good; or | so", "x"), ("two\nlines", "y")]
    content = "".join(f'"{text}"{delimiter}{label}\r\n' for text, label in rows).encode()
    match name:
        case "a.tsv.gz":
            Path(name).write_bytes(gzip.compress(content))
        case "a.zip":
            with zipfile.ZipFile(name, "w") as archive:
                archive.writestr("a.tsv", content)
        case _:
            Path(name).write_bytes(content)
    given = {"format": "csv"} if name == "a.data" else {}
    assert labelled(path=name, **given) == rows[1:]


@pytest.mark.parametrize(
    ("header", "wanted", "found"),
    [
        ("text,label", WANTED, ","),
        ("text;label", WANTED, ";"),
        ("id;text, as it was;label;text", WANTED, ";"),
        ("text", WANTED, ","),
        ("review;stars", WANTED, ";"),
        ("a,b;text;label", WANTED, ";"),
        ('"a;b;c",text,label', WANTED, ","),
        ("q;a;b", {}, ";"),
        ("", {}, ","),
        ("text\rlabel", WANTED, ","),
    ],
)
def test_the_wanted_columns_decide_then_how_many_there_are(
    header: str, wanted: dict[str, str], found: str
) -> None:
    assert delimiter_of(header, wanted, is_tsv=False) == found


def test_a_tsv_of_one_column_has_commas_in_its_texts() -> None:
    Path("a.tsv").write_text("text\none, two\n")
    assert [d.text for d in documents(path="a.tsv")] == ["one, two"]


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    Path("a.csv").write_text("review;stars\nfine;5\n")
    with pytest.raises(
        UserError, match=r"no column 'text': set as `columns.text`; columns: review, stars"
    ):
        documents(path="a.csv")


def test_a_delimiter_may_be_named() -> None:
    Path("a.csv").write_text("text:label\nfine, so:x\n")
    with pytest.raises(UserError, match=r"columns: text:label; set `delimiter` if these are"):
        documents(path="a.csv")
    assert labelled(path="a.csv", delimiter=":") == [("fine, so", "x")]


def test_check_and_run_find_the_same_delimiter() -> None:
    Path("a.csv").write_text("text, as written, once;label\nfine;x\n")
    source = Source(path="a.csv", columns={"text": "text, as written, once"})
    assert {*first_columns(source, ())} == {"text, as written, once", "label"}
    assert [d.text for part in parts(source, KEY) for d in read(source, part)] == ["fine"]


def test_blank_lines_may_stand_above_the_header() -> None:
    Path("a.csv").write_text("\n \r\ntext;label\nfine, so;x\n")
    assert labelled(path="a.csv") == [("fine, so", "x")]


def test_a_line_may_tell_excel_the_delimiter() -> None:
    Path("a.csv").write_text("\ufeffsep=;\r\ntext;label\r\nfine, so;x\r\n", "utf-8")
    (document,) = documents(path="a.csv", columns={"label": "label"})
    assert (document.text, document.label) == ("fine, so", "x")
    assert document.where.endswith("a.csv:3")


@pytest.mark.parametrize("delimiter", ["", "::", "\\t", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(ValidationError, match="must be one character, no quote and no line break"):
        Source(path="a.csv", delimiter=delimiter)


def test_quotes_between_tabs_may_be_text() -> None:
    """As in GLUE's files, whose fields are never quoted."""
    lines = ['"Fine" he said\tx', '"open\ty', "plain\tx", 'close"\ty', '"all ""of"" it"\tx']
    Path("a.tsv").write_text("\n".join(["text\tlabel", *lines]))
    assert labelled(path="a.tsv") == [
        ('"Fine" he said', "x"), ('"open', "y"), ("plain", "x"), ('close"', "y"),
        ('all "of" it', "x"),
    ]  # fmt: skip
    Path("d.tsv").write_text('text\tlabel\n"with\ta tab, ""and"" a\nline break"\ty\n')
    assert labelled(path="d.tsv") == [('with\ta tab, "and" a\nline break', "y")]
    Path("b.tsv").write_text('label\ttext\nx\t"never closed\ny\tfine\n')
    assert labelled(path="b.tsv") == [('"never closed', "x"), ("fine", "y")]
    Path("c.tsv").write_text('label\ttext\nx\t"of two\nlines"\ny\tfine\n')
    assert labelled(path="c.tsv") == [("of two\nlines", "x"), ("fine", "y")]


def test_texts_of_evaluation_sets_are_found_between_any_delimiters() -> None:
    Path("dev.tsv").write_text("sentence\tlabel\none, two\t1\n")
    assert list(every_text("dev.tsv", "key")) == ["one, two", "1"]
    Path("dev.csv").write_text("sentence;label\none, two;1\n")
    assert list(every_text("dev.csv", "key")) == ["one, two", "1"]
