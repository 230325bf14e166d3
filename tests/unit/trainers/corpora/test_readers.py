"""Every kind of source gives the same documents; every wrong thing gets one clear error."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from tests.fakes import folder_of_package
from trainers.corpora.config import Source
from trainers.corpora.sources import Document, every_text, parts, read

ROWS = [
    {"text": "这家酒店很好", "label": "good"},
    {"text": "two words", "label": "bad"},
]
KEY = "corpora.sources.x"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(**source: Any) -> list[Document]:
    made = Source(**source)
    return [document for part in parts(made, KEY) for document in read(made, part)]


def write_text(path: str) -> None:
    Path(path).write_text("".join(f"{row['text']}\n" for row in ROWS), encoding="utf-8")


def write_jsonl(path: str) -> None:
    lines = [json.dumps({**row, "more": [1]}, ensure_ascii=False) for row in ROWS]
    Path(path).write_text("\n\n".join(lines), encoding="utf-8")


def write_csv(path: str) -> None:
    rows = [f'{row["label"]},"{row["text"]}"' for row in ROWS]
    Path(path).write_text("\r\n".join(["label,text", *rows]), encoding="utf-8")


def write_parquet(path: str) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


def write_compressed(path: str) -> None:
    plain = path.rpartition(".")[0]
    WRITERS[Path(plain).suffix](plain)
    with pa.output_stream(path, compression="detect") as out:
        out.write(Path(plain).read_bytes())
    Path(plain).unlink()


WRITERS: dict[str, Callable[[str], None]] = {
    ".txt": write_text,
    ".jsonl": write_jsonl,
    ".ndjson": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".gz": write_compressed,
    ".zst": write_compressed,
}


@pytest.mark.parametrize(
    "name",
    [
        "a.jsonl",
        "a.ndjson",
        "A.JSONL",
        "a.jsonl.gz",
        "a.jsonl.zst",
        "a.csv",
        "a.csv.gz",
        "a.parquet",
    ],
)
def test_documents_with_columns(name: str) -> None:
    WRITERS[Path(name.lower()).suffix](name)
    found = documents(path=name, label_column="label")
    assert [{"text": document.text, "label": document.label} for document in found] == ROWS
    assert all(document.where.startswith(str(Path(name).absolute())) for document in found)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_each_line_of_a_text_is_a_document(name: str) -> None:
    WRITERS[Path(name).suffix](name)
    found = documents(path=name, label="news")
    assert [(document.text or "").strip() for document in found] == [row["text"] for row in ROWS]
    assert [document.label for document in found] == ["news", "news"]
    assert [document.where.rpartition(":")[2] for document in found] == ["1", "2"]


def test_the_format_may_be_given() -> None:
    write_jsonl("a.data")
    assert len(documents(path="a.data", format="jsonl")) == 2
    assert len(documents(path="a.data", format="text")) == 2


def test_the_text_column_may_be_named() -> None:
    Path("a.jsonl").write_text('{"review": "fine", "text": 3}\n')
    assert documents(path="a.jsonl", text="review")[0].text == "fine"


def test_a_csv_field_may_span_lines() -> None:
    Path("a.csv").write_text('text,label\n"one\ntwo",good\nthree,bad\n')
    assert [d.text for d in documents(path="a.csv")] == ["one\ntwo", "three"]


@pytest.mark.parametrize("splits", [False, True])
def test_a_dataset_saved_to_disk(splits: bool) -> None:
    import datasets

    classes = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})
    rows = [{"text": row["text"], "label": classes.str2int(row["label"])} for row in ROWS]
    dataset = datasets.Dataset.from_list(rows, features=features)
    (datasets.DatasetDict({"test": dataset}) if splits else dataset).save_to_disk("saved")
    found = documents(dataset="saved", dataset_split="test", label_column="label")
    assert [{"text": document.text, "label": document.label} for document in found] == ROWS


def test_a_file_of_a_python_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_package(tmp_path, "ships_text", {"one.txt": "one\n", "two.txt": "two\n"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir("/")
    found = documents(package="ships_text", path="*.txt")
    assert [document.text for document in found] == ["one\n", "two\n"]


def test_tags_are_stripped_and_words_joined() -> None:
    Path("a.txt").write_text("迈向/v  充满/v  希望/n  的/u  新/a  世纪/n\n1/2/m /w\n")
    assert [d.text for d in documents(path="a.txt", tagged=True)] == ["迈向充满希望的新世纪", "1/2"]


def test_bytes_that_are_not_utf8_come_as_none() -> None:
    Path("a.txt").write_bytes(b"good\n\xff\xfe\nbetter\n")
    Path("a.jsonl").write_bytes(b'{"text": "good"}\n{"text": "\xff"}\n')
    Path("a.csv").write_bytes(b"text,label\ngood,x\n\xff,y\n")
    assert [d.text and d.text.strip() for d in documents(path="a.txt")] == ["good", None, "better"]
    for name in ("a.jsonl", "a.csv"):
        assert [document.text for document in documents(path=name)] == ["good", None]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"path": "gone/*.txt"}, "corpora.sources.x.path: no file matches 'gone/*.txt' (looked in"),
        ({"path": "/gone.txt"}, "corpora.sources.x.path: no file matches '/gone.txt'"),
        ({"path": "folder"}, "corpora.sources.x.path: no file matches 'folder'"),
        ({"path": "file:///gone/*.txt"}, "no object matches 'file:///gone/*.txt'"),
        ({"path": "file:///gone.txt"}, "no object matches 'file:///gone.txt'"),
        ({"path": "a.txt", "package": "not_there"}, "package: 'not_there' is not installed; pip"),
        ({"path": "a.txt", "package": "not_there.at_all"}, "'not_there.at_all' is not installed"),
        ({"path": "a.doc"}, "a.doc: unknown ending '.doc' (known: .txt, .jsonl,"),
        ({"path": "a.doc.gz"}, "a.doc.gz: unknown ending '.doc'"),
        ({"path": "broken.jsonl"}, "broken.jsonl:2: not JSON: "),
        ({"path": "list.jsonl"}, "list.jsonl:1: expected an object with columns, found list"),
        ({"path": "number.jsonl"}, "number.jsonl:1: column 'text' is int, not text"),
        ({"path": "a.csv", "text": "body"}, "a.csv:2: no column 'body' (set as `text`); columns: "),
        ({"path": "a.csv", "label_column": "stars"}, "no column 'stars' (set as `label_column`)"),
        ({"path": "junk.parquet"}, "junk.parquet: not a Parquet file: "),
        ({"path": "junk.txt.gz"}, "junk.txt.gz: cannot be read to its end: "),
        ({"path": "junk.txt.zst"}, "junk.txt.zst: cannot be read to its end: "),
        ({"path": "cut.txt.gz"}, "cut.txt.gz: cannot be read to its end: "),
    ],
)
def test_what_cannot_be_read_is_told(source: dict[str, Any], says: str) -> None:
    Path("folder").mkdir()
    Path("a.doc").write_text("x")
    Path("a.doc.gz").write_text("x")
    write_csv("a.csv")
    Path("broken.jsonl").write_text('{"text": "fine"}\n{"text": "cut\n')
    Path("list.jsonl").write_text("[1]\n")
    Path("number.jsonl").write_text('{"text": 3}\n')
    for name in ("junk.parquet", "junk.txt.gz", "junk.txt.zst"):
        Path(name).write_text("neither this nor that")
    Path("cut.txt.gz").write_bytes(gzip.compress(bytes(range(256)) * 40)[:-100])
    with pytest.raises(UserError) as caught:
        documents(**source)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.txt"])
def test_every_text_of_an_evaluation_set_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.jsonl").write_text('{"id": 1, "sentence1": "一", "sentence2": "二", "label": 0}\n')
    Path("e.csv").write_text("sentence1,sentence2\n一,二\n")
    Path("e.txt").write_text("一\n二\n")
    assert [text.strip() for text in every_text(name, "key")] == ["一", "二"]
