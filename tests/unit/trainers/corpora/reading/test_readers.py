"""Every kind of source gives the same documents; every wrong thing gets one clear error."""

import datetime
import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import InfrastructureError, UserError
from tests.fakes import folder_of_package
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.streams import is_of_content, reading, unreadable
from trainers.corpora.reading.readers import (
    Document,
    every_text,
    first_columns,
    read,
    read_whole,
)
from trainers.corpora.reading.sources import Part, parts

ROWS = [
    {"text": "这家酒店很好", "label": "good"},
    {"text": "two words", "label": "bad"},
]
ROOT = Path(__file__).parents[5]
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
    found = documents(path=name, columns={"label": "label"})
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
    assert documents(path="a.jsonl", columns={"text": "review"})[0].text == "fine"


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
    found = documents(dataset="saved", dataset_split="test", columns={"label": "label"})
    assert [{"text": document.text, "label": document.label} for document in found] == ROWS


def test_numbers_and_dates_of_a_dataset_are_labels() -> None:
    import datasets

    rows = {"text": ["a", "b"], "short": [0.1, 2.0], "day": [datetime.date(2026, 11, 29)] * 2}
    features = datasets.Features(
        text=datasets.Value("string"), short=datasets.Value("float32"), day=datasets.Value("date32")
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("saved")
    found = documents(dataset="saved", columns={"label": "short", "group": "day"})
    assert [(d.label, d.group) for d in found] == [("0.1", "2026-11-29"), ("2", "2026-11-29")]


def test_a_file_of_a_python_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_package(tmp_path, "ships_text", {"one.txt": "one\n", "two.txt": "two\n"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir("/")
    found = documents(package="ships_text", path="*.txt")
    assert [document.text for document in found] == ["one\n", "two\n"]


def test_tags_are_stripped_and_words_joined() -> None:
    Path("a.txt").write_text("迈向/v  充满/v  希望/n  的/u  新/a  世纪/n\n1/2/m /w\n")
    assert [d.text for d in documents(path="a.txt", tagged=True)] == ["迈向充满希望的新世纪", "1/2"]


def test_a_tagged_text_offers_its_words_and_tags() -> None:
    source = {"path": "a.txt", "tagged": True}
    Path("a.txt").write_text("江/nr 泽民/nr 说/v\n迈向 充满/v\n")
    assert {*first_columns(Source(**source), ())} == {"text", "tokens", "tags"}
    known = first_columns(Source(**source), ())
    named = Source(**source).of_examples(known, [("tokens", "tags")])
    assert named is not None
    first, second = (d for part in parts(named, KEY) for d in read(named, part))
    assert first.values == {"tokens": ["江", "泽民", "说"], "tags": ["nr", "nr", "v"]}
    assert str(second.problem) == "a word without a tag: '迈向'"
    assert [d.text for d in documents(**source)] == ["江泽民说", "迈向充满"], "to pretrain on"
    assert Source(**source).of_examples(known, [("text", "label")]) is None
    Path("b.jsonl").write_text('{"review": "a/n b/v", "text": 3}')
    renamed = {"path": "b.jsonl", "tagged": True, "columns": {"text": "review"}}
    known = first_columns(Source(**renamed), ())
    named = Source(**renamed).of_examples(known, [("tokens", "tags")])
    assert named is not None
    (row,) = read(named, Part("b.jsonl"))
    assert (row.text, row.values["tags"]) == ("a b", ["n", "v"])


def whole(**source: Any) -> list[tuple[Document, Any]]:
    made = Source(**source)
    return [pair for part in parts(made, KEY) for pair in read_whole(made, part)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv", "a.parquet"])
def test_a_document_may_come_with_its_whole_row(name: str) -> None:
    WRITERS[Path(name).suffix](name)
    found = whole(path=name)
    assert [document.text for document, _ in found] == [row["text"] for row in ROWS]
    assert [{"text": row["text"], "label": row["label"]} for _, row in found] == ROWS


def test_whole_rows_of_lines_and_of_a_dataset() -> None:
    import datasets

    Path("a.txt").write_text("one\n", "utf-8")
    ((document, row),) = whole(path="a.txt", columns={"text": "line"})
    assert (document.text, row) == ("one\n", {"line": "one\n"})
    datasets.Dataset.from_list(ROWS).save_to_disk("saved")
    assert [row for _, row in whole(dataset="saved")] == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet", "a.conll"])
def test_a_whole_row_says_how_much_of_its_part_is_read(name: str) -> None:
    count = 200
    written: Any = {
        "a.jsonl": lambda n: json.dumps({"text": "好" * (n % 7), "label": "a"}) + "\n",
        "a.csv": lambda n: "text,label\n" * (n == 0) + f'"two\nlines {n}",a\n',
        "a.txt": lambda n: f"line {n:03}\n",
        "a.conll": lambda n: f"word\tO\nword{n}\tO\n\n",
    }
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["x"] * count}), name, row_group_size=30)
    else:
        Path(name).write_text("".join(map(written[name], range(count))), "utf-8")
    shares = [document.share or 0.0 for document, _ in whole(path=name)]
    assert shares == pytest.approx([(n + 1) / count for n in range(count)], abs=0.03)
    assert shares[-1] == 1.0


def test_the_shares_of_a_part_are_of_its_own_rows() -> None:
    Path("a.jsonl").write_text('{"text": "a line of some length"}\n' * 100, "utf-8")
    source = Source(path="a.jsonl")
    for part in parts(source, KEY, part_bytes=1_000):
        shares = [document.share or 0.0 for document, _ in read_whole(source, part)]
        assert shares == sorted(shares)
        assert shares[0] < 0.1
        assert shares[-1] == 1.0


def test_how_much_is_read_of_what_has_no_known_size_is_not_said() -> None:
    write_compressed("a.jsonl.gz")
    Path("b.jsonl").write_text(json.dumps(ROWS), "utf-8")
    Path("c.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), "utf-16")
    for path in ("a.jsonl.gz", "b.jsonl", "c.jsonl"):
        assert [document.share for document, _ in whole(path=path)] == [None] * len(ROWS)


def test_a_row_that_cannot_be_kept_whole_is_a_problem() -> None:
    text, raw = pa.array([b"fine", b"fine"]), pa.array([b"\xff", b"ok"])
    table = pa.table({"text": text, "other": raw.cast(pa.string(), safe=False), "raw": raw})
    pq.write_table(table, "a.parquet")
    (bad, _), (good, row) = whole(path="a.parquet")
    assert (bad.text, str(bad.problem)[:9], good.text) == (None, "not UTF-8", "fine")
    assert row == {"text": "fine", "other": "ok", "raw": b"ok"}, "bytes stay bytes"
    Path("a.jsonl").write_text('{"text": "x"}\n[1]\n', "utf-8")
    (_, (bad, row)) = whole(path="a.jsonl")
    assert (bad.problem is not None, row) == (True, {})


def test_words_without_tags_are_whole() -> None:
    Path("a.conll").write_text("一\n二\n\n三 O\n", "utf-8")
    (bare, row), (_, other) = whole(path="a.conll")
    assert (bare.problem, row) == (None, {"tokens": ["一", "二"], "text": "一二"})
    assert other == {"tokens": ["三"], "tags": ["O"], "text": "三"}


def test_two_columns_of_one_name_are_refused_where_rows_are_whole() -> None:
    Path("a.csv").write_text("text,x,x\na,1,2\n")
    assert documents(path="a.csv")[0].text == "a"
    with pytest.raises(UserError, match=r"a\.csv: 2 columns are called 'x'; rename all but one"):
        whole(path="a.csv")


FINE = {
    "jsonl": '{"text": "fine", "label": "x"}',
    "csv": "fine,x",
    "txt": "fine",
}
HEADERS = {"csv": "text,label\n"}


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("txt", b"\xff\xfe", "not UTF-8"),
        ("jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("csv", b"\xff,x", "not UTF-8"),
        ("csv", b"fine,\xff", "not UTF-8"),
        ("csv", b'"two\nlines \xff",x', "not UTF-8"),
        ("txt", b"x" * 99, "row over 6.10352e-05 MiB"),
        ("jsonl", b'{"text": "%s"}' % (b"x" * 99), "row over 6.10352e-05 MiB"),
        ("csv", b"x" * 99 + b",x", "row over 6.10352e-05 MiB"),
        ("jsonl", b'{"text": "cut', "not JSON"),
        ("jsonl", b'{"text": "\\ud800"}', "not JSON"),
        ("jsonl", b"[" * 60, "not JSON"),
        ("jsonl", b"[1]", "not an object with columns"),
        ("jsonl", b'{"text": "a", "label": "x", "label": "y"}', "a key twice"),
        ("jsonl", b'{"body": "x"}', "no column 'text'"),
        ("jsonl", b'{"text": "x"}', "no column 'label'"),
        ("jsonl", b'{"text": null, "label": "x"}', "no text in column 'text'"),
        ("jsonl", b'{"text": 3, "label": "x"}', "column 'text' is int, not text"),
        ("jsonl", b'{"text": "x", "label": null}', "no label in column 'label'"),
        ("jsonl", b'{"text": "x", "label": NaN}', "no label in column 'label'"),
        ("jsonl", b'{"text": "x", "label": {"a": 1}}', "column 'label' is dict, not a label"),
        ("csv", b"x", "wrong number of fields"),
        ("csv", b"x,y,z", "wrong number of fields"),
        ("csv", b"x,", "no label in column 'label'"),
        ("csv", b'"x"y,z', "not CSV"),
        ("csv", b"x\ry,z", "not CSV"),
    ],
)
def test_a_row_that_cannot_be_read_is_one_row(
    monkeypatch: pytest.MonkeyPatch, kind: str, row: bytes, reason: str
) -> None:
    """What stands before and behind it is read."""
    monkeypatch.setattr("trainers.corpora.reading.formats.rows.MAX_ROW_BYTES", 64)
    fine = FINE[kind].encode()
    content = HEADERS.get(kind, "").encode() + b"\n".join([fine, row, fine])
    Path(f"a.{kind}").write_bytes(content)
    source = {"path": f"a.{kind}"} | ({} if kind == "txt" else {"columns": {"label": "label"}})
    found = documents(**source)
    assert [document.text and document.text.strip() for document in found] == ["fine", None, "fine"]
    assert [d.problem and d.problem.reason for d in found] == [None, reason, None]
    assert found[1].where.endswith(f"a.{kind}:{3 if kind == 'csv' else 2}")


def test_a_quote_that_is_never_closed_is_no_text() -> None:
    Path("a.csv").write_text('label,text\na,fine\nb,"open\nc,fine\n')
    first, *others = documents(path="a.csv")
    assert first.text == "fine"
    assert [one.problem for one in others] == [("not CSV", "unexpected end of data")] * 2


def test_each_line_that_a_quote_took_in_counts_as_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is lost is not hidden from `max_unreadable`."""
    monkeypatch.setattr("trainers.corpora.reading.formats.rows.MAX_ROW_BYTES", 64)
    Path("a.csv").write_text('label,text\nb,"open\n' + "b,ten bytes\n" * 5 + "c,fine\n")
    *others, last = documents(path="a.csv")
    assert {one.problem and one.problem.reason for one in others} == {"row over 6.10352e-05 MiB"}
    assert (len(others), last.text) == (6, "fine")


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_an_empty_file_has_no_documents(kind: str) -> None:
    Path(f"a.{kind}").write_bytes(b"")
    assert documents(path=f"a.{kind}") == []


def test_labels_may_be_numbers_in_one_file_and_text_in_another() -> None:
    Path("a.jsonl").write_text('{"text": "x", "label": 1}\n{"text": "x", "label": true}\n')
    Path("b.jsonl").write_text('{"text": "x", "label": "1"}\n')
    found = documents(path="*.jsonl", columns={"label": "label"})
    assert [document.label for document in found] == ["1", "True", "1"]


def refused(**source: Any) -> str:
    """What the user is told."""
    with pytest.raises(UserError) as caught:
        list(cleaned(documents(**source), Clean(), Counts()))
    return str(caught.value).replace(f"{Path.cwd()}/", "")


SHARE = (
    " (unreadable: 1 of 2 rows, over corpora.clean.max_unreadable = 0.01; mend them, "
    "or raise it to drop them)"
)
DAMAGED = "; is it damaged or cut off?"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.txt",
            "这家酒店很好\n".encode() + b"\xff\n",
            "a.txt:2: not UTF-8",
        ),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"text": "cut\n',
            "a.jsonl:2: not JSON: EOF while parsing a string at column 13",
        ),
        ("a.jsonl", b'[1]\n{"text": "fine"}\n', "a.jsonl:1: not an object with columns: list"),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"texts": "x", "id": 1}',
            "a.jsonl:2: no column 'text': set as `columns.text`; "
            "columns: texts, id; did you mean 'texts'?",
        ),
        ("a.jsonl", b'{"text": 3}\n{"text": "fine"}', "a.jsonl:1: column 'text' is int, not text"),
        ("a.jsonl", b'{"text": null}\n{"text": "fine"}', "a.jsonl:1: no text in column 'text'"),
        ("a.csv", b'text\n"a"b\nfine\n', "a.csv:2: not CSV: ',' expected after '\"'"),
        (
            "a.csv",
            b"text,b\nfine,1\nfine\n",
            "a.csv:3: wrong number of fields: 1, where the header has 2",
        ),
    ],
)
def test_too_many_unreadable_rows_are_refused(name: str, content: bytes, says: str) -> None:
    Path(name).write_bytes(content)
    assert refused(path=name) == says + SHARE


def test_of_rows_that_are_all_unreadable_no_limit_is_told() -> None:
    Path("a.jsonl").write_text('{"texts": "x"}\n[1]\n')
    assert refused(path="a.jsonl").endswith(
        "(unreadable: 2 of 2 rows, the first is told; mend them, or set how they are read "
        "(corpora.sources))"
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"path": "a.doc"}, "a.doc: unknown ending '.doc' (known: .txt, .jsonl, .json, .ndjson, "
         ".csv, .tsv, .tab, .conll, .bio, .bmes, .iob, .parquet, .yaml, .yml, .zip, .tar); "
         "set the source's `format`"),
        ({"path": "a.doc.gz"}, "a.doc.gz: unknown ending '.doc' (known: .txt, .jsonl, .json, "
         ".ndjson, .csv, .tsv, .tab, .conll, .bio, .bmes, .iob, .parquet, .yaml, .yml, .zip, "
         ".tar); set the source's `format`"),
        ({"path": "a.csv", "columns": {"text": "txt"}}, "a.csv: no column 'txt': set as "
         "`columns.text`; columns: label, "
         "text; did you mean 'text'?"),
        ({"path": "a.csv", "columns": {"label": "stars"}}, "a.csv: no column 'stars': set as "
         "`columns.label`; columns: label, text"),
        ({"path": "a.txt", "columns": {"label": "label"}}, "a.txt: no column 'label': set as "
         "`columns.label`; columns: text"),
        ({"path": "gbk.csv"}, "gbk.csv: the header cannot be read: not UTF-8: it looks like "
         "gb18030 or cp949; set the source's `encoding: gb18030`, or convert the file"),
        ({"path": "junk.txt.gz"}, "junk.txt.gz: cannot be read: zlib inflate failed: "
         "incorrect header check" + DAMAGED),
        ({"path": "junk.txt.zst"}, "junk.txt.zst: cannot be read: ZSTD decompress "
         "failed: Unknown frame descriptor" + DAMAGED),
        ({"path": "cut.txt.gz"}, "cut.txt.gz: cannot be read: Truncated compressed "
         "stream" + DAMAGED),
        ({"path": "cut.txt.zst"}, "cut.txt.zst: cannot be read: Truncated compressed "
         "stream" + DAMAGED),
        ({"path": "cut.txt.bz2"}, "cut.txt.bz2: cannot be read: Truncated compressed "
         "stream" + DAMAGED),
        ({"path": "cut.csv.gz"}, "cut.csv.gz: cannot be read: Truncated compressed "
         "stream" + DAMAGED),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused(source: dict[str, Any], says: str) -> None:
    write_csv("a.csv")
    write_text("a.txt")
    Path("gbk.csv").write_bytes("文本,text\n很好,这家酒店很好，下次还会再来\n".encode("gb18030"))
    for name in ("a.doc", "a.doc.gz", "junk.txt.gz", "junk.txt.zst"):
        Path(name).write_text("neither this nor that")
    for name in ("cut.txt.gz", "cut.txt.zst", "cut.txt.bz2", "cut.csv.gz"):
        with pa.output_stream(name, compression="detect") as out:
            out.write(b"text\n" + os.urandom(3000).hex().encode() + b"\n")
        Path(name).write_bytes(Path(name).read_bytes()[:-100])
    assert refused(**source) == says


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"path": "gone/*.txt"}, "corpora.sources.x.path: no file matches 'gone/*.txt' (looked in"),
        ({"path": "/gone.txt"}, "corpora.sources.x.path: no file matches '/gone.txt'"),
        ({"path": "folder"}, "corpora.sources.x.path: 'folder' is a folder; give its files"),
        ({"path": "file:///gone/*.txt"}, "no file matches 'file:///gone/*.txt'"),
        ({"path": "file:///gone.txt"}, "no file matches 'file:///gone.txt'"),
        ({"path": "a**.txt"}, "corpora.sources.x.path: 'a**.txt': '**' stands for folders, and"),
        ({"path": "nfs://x/a.txt"}, "corpora.sources.x.path: cannot read 'nfs://x/a.txt': Unrecog"),
        ({"path": "a.txt", "package": "not_there"}, "package: 'not_there' is not installed; pip"),
        ({"path": "a.txt", "package": "not_there.at_all"}, "'not_there.at_all' is not installed"),
    ],
)
def test_where_there_is_no_file_it_is_told(source: dict[str, Any], says: str) -> None:
    Path("folder").mkdir()
    assert says in refused(**source)


def test_a_file_that_went_away_is_told() -> None:
    write_text("a.txt")
    source = Source(path="a.txt")
    (part,) = parts(source, KEY)
    Path("a.txt").unlink()
    with pytest.raises(UserError, match=r"a\.txt: cannot be read: .*No such file or directory$"):
        list(read(source, part))


def test_a_network_that_gives_out_is_not_the_files_fault() -> None:
    said = (
        "When reading information for key 'a.txt' in bucket 'b': AWS Error NETWORK_CONNECTION "
        "during HeadObject operation: curlCode: 7, Could not connect to server"
    )
    assert isinstance(unreadable("s3://b/a.txt", OSError(said)), InfrastructureError)


def test_files_of_several_members_of_a_compression_are_read_whole() -> None:
    Path("a.txt.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert [document.text for document in documents(path="a.txt.gz")] == ["one\n", "two\n"]


LONG_LINE = """
import resource, sys
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import Part
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [d.problem and d.problem.reason for d in read(Source(path=sys.argv[1]), Part(sys.argv[1]))]
print(found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_line_of_200_mb_is_never_in_memory(kind: str) -> None:
    piece = b"x" * (1 << 20)
    with Path(f"a.{kind}").open("wb") as out:
        out.write(HEADERS.get(kind, "").encode())
        for _ in range(200):
            out.write(piece)
        out.write(f"\n{FINE[kind]}\n".encode())
    command = [sys.executable, "-c", LONG_LINE, str(Path(f"a.{kind}").absolute())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found, _, grown_mib = done.stdout.rpartition(" ")
    assert found == "['row over 16 MiB', None]", done.stderr
    assert int(grown_mib) < 80


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.txt"])
def test_every_text_of_an_evaluation_set_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.jsonl").write_text('{"id": 1, "sentence1": "一", "sentence2": "二", "label": 0}\n')
    Path("e.csv").write_text("sentence1,sentence2\n一,二\n")
    Path("e.txt").write_text("一\n二\n")
    assert [text.strip() for text in every_text(name, "key")] == ["一", "二"]


def test_a_disk_that_fails_is_no_mistake_of_the_user() -> None:
    for number in (errno.EIO, errno.ESTALE):
        told = unreadable("a.txt", OSError(number, "it fails"))
        assert isinstance(told, InfrastructureError)
    assert isinstance(unreadable("a.txt", OSError(errno.EACCES, "no")), UserError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("zlib inflate failed"), True),
        (EOFError("no bytes"), True),
        (OSError(errno.EACCES, "no"), False),
        (FileNotFoundError("Path does not exist 'b/a.txt'"), False),
        (OSError("AWS Error ACCESS_DENIED during GetObject operation"), False),
    ],
)
def test_what_a_file_holds_is_told_from_what_keeps_one_from_it(
    error: Exception, expected: bool
) -> None:
    with pytest.raises(UserError) as raised, reading("a.txt"):
        raise error
    assert is_of_content(raised.value) is expected


def test_texts_in_lists_and_objects_of_an_evaluation_set_are_read() -> None:
    """As CLUE's reading comprehension and cloze tests have them, in JSON lines called .json."""
    row = {"content": ["一", "二"], "candidates": {"a": "三", "b": [{"c": "四"}]}, "answer": 1}
    Path("chid.json").write_text(json.dumps(row) + "\n")
    assert list(every_text("chid.json", "key")) == ["一", "二", "三", "四"]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.zst", "a.csv.bz2"])
def test_a_compressed_file_of_no_bytes_is_one_that_was_cut_off(name: str) -> None:
    Path(name).touch()
    with pytest.raises(UserError, match=f"{name}: cannot be read: no bytes; is it damaged or cut"):
        documents(path=name)


def test_a_column_that_is_there_twice_is_refused() -> None:
    Path("a.csv").write_text("text,text,other,other\na,b,c,d\n")
    with pytest.raises(UserError, match=r"a\.csv: 2 columns are called 'text'"):
        documents(path="a.csv")


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"text": "a", "text": "b"}', "text"),
        ('{"text": "a:b", "te\\u0078t" : "c"}', "text"),
        ('{"text": "a", "of": {"at": 1, "at": 1}}', "at"),
        ('{"text": "a", "of": [{"at": 1}, {"at": 2}], "at": "\\":"}', None),
        ('{"text": "a \\"quote\\": b, http://c"}', None),
    ],
)
def test_a_key_that_a_row_has_twice_is_told(row: str, key: str | None) -> None:
    Path("a.jsonl").write_text(row)
    Path("array.json").write_text(f"[{row}]")
    for path in ("a.jsonl", "array.json"):
        (document,) = documents(path=path)
        told = document.problem and str(document.problem)
        assert told == (None if key is None else f"a key twice: {key!r}")


def test_a_whole_number_is_the_same_label_with_a_point_or_without() -> None:
    rows = [{"text": "a", "stars": 1}, {"text": "b", "stars": 1.0}, {"text": "c", "stars": 1.5}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    labels = [document.label for document in documents(path="a.jsonl", columns={"label": "stars"})]
    assert labels == ["1", "1", "1.5"]


def test_every_row_of_an_evaluation_set_must_be_read() -> None:
    Path("e.jsonl").write_text('{"sentence": "一"}\n{"sentence"\n')
    with pytest.raises(UserError, match=r"e\.jsonl:2: not JSON: .* \(in key, where every row is n"):
        list(every_text("e.jsonl", "key"))
