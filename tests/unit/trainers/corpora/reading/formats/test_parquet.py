"""Parquet: what is damaged is refused by the file's name, what differs by schema is read."""

import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.parquet import parquet
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.reading.sources import parts

WANTED = {"text": "text"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(**source: Any) -> list[Document]:
    made = Source(**source)
    return [d for part in parts(made, "corpora.sources.x") for d in read(made, part)]


def refused(**source: Any) -> str:
    with pytest.raises(UserError) as caught:
        documents(**source)
    return str(caught.value).replace(f"{Path.cwd()}/", "")


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_every_type_of_text_is_read(kind: pa.DataType) -> None:
    texts = ["很好", None, "", "fine"]
    array = pa.array(texts if kind != pa.binary() else [t and t.encode() for t in texts])
    pq.write_table(pa.table({"more": [1, 2, 3, 4], "text": array.cast(kind)}), "a.parquet")
    assert [row.columns for row in parquet("a.parquet", WANTED)] == [{"text": t} for t in texts]
    assert [d.text for d in documents(path="a.parquet")] == texts


def test_every_column_is_read_where_none_is_named() -> None:
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "n": [1]}), "a.parquet")
    assert [row.columns for row in parquet("a.parquet", {})] == [{"a": "x", "b": "y", "n": 1}]


def test_a_document_is_known_by_its_row_in_the_file() -> None:
    pq.write_table(pa.table({"text": [*"abcde"]}), "a.parquet", row_group_size=2)
    assert [row.where for row in parquet("a.parquet", WANTED, 1, 2)] == [
        "a.parquet:row 3",
        "a.parquet:row 4",
    ]


def test_a_long_text_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.corpora.reading.formats.rows.MAX_ROW_BYTES", 1 << 20)
    pq.write_table(pa.table({"text": ["a", "b" * ((1 << 20) + 1), "c"]}), "a.parquet")
    assert [d.problem and d.problem.reason for d in documents(path="a.parquet")] == [
        None,
        "row over 1 MiB",
        None,
    ]


def test_a_batch_has_fewer_rows_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.corpora.reading.formats.parquet.BATCH_BYTES", 4000)
    asked = []
    iterate = pq.ParquetFile.iter_batches

    def watched(self: pq.ParquetFile, batch_size: int, **options: Any) -> Any:
        asked.append(batch_size)
        return iterate(self, batch_size, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    texts = [os.urandom(500).hex() for _ in range(20)]
    pq.write_table(pa.table({"text": texts}), "a.parquet", use_dictionary=False)
    assert [d.text for d in documents(path="a.parquet")] == texts
    assert asked == [3]


def test_files_of_a_source_may_differ_in_their_schemas() -> None:
    pq.write_table(pa.table({"text": ["one"], "label": [1]}), "a.parquet")
    pq.write_table(pa.table({"label": ["1"], "id": [7], "text": ["two"]}), "b.parquet")
    found = documents(path="*.parquet", columns={"label": "label"})
    assert [(d.text, d.label) for d in found] == [("one", "1"), ("two", "1")]


def test_a_file_without_the_column_is_refused() -> None:
    pq.write_table(pa.table({"text": ["one"]}), "a.parquet")
    pq.write_table(pa.table({"texts": ["two"], "id": [1]}), "b.parquet")
    assert refused(path="*.parquet") == (
        "b.parquet: no column 'text': set as `columns.text`; "
        "columns: texts, id; did you mean 'texts'?"
    )


def damage(find: bytes, **options: Any) -> None:
    """Breaks the byte that stands there last."""
    table = pa.table({"text": ["the text" + os.urandom(3000).hex()] * 9})
    pq.write_table(table, "a.parquet", store_schema=False, **options)
    content = bytearray(Path("a.parquet").read_bytes())
    content[content.rindex(find)] ^= 0xFF
    Path("a.parquet").write_bytes(content)


@pytest.mark.parametrize("find", [b"PAR1", b"schema"])
def test_a_damaged_footer_is_refused(find: bytes) -> None:
    damage(find)
    if find == b"schema":  # the length before it
        content = bytearray(Path("a.parquet").read_bytes())
        content[content.rindex(b"chema") - 2] = 0x7F
        Path("a.parquet").write_bytes(content)
    assert re.match(r"a\.parquet: (not a Parquet file|cannot be read): ", refused(path="a.parquet"))


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(
    ("find", "options"),
    [
        (
            b"the text",
            {"write_page_checksum": True, "compression": "none", "write_statistics": False},
        ),
        (ZSTD_MAGIC, {"compression": "zstd"}),
    ],
)
def test_a_damaged_page_is_refused(find: bytes, options: dict[str, Any]) -> None:
    damage(find, **options)
    says = refused(path="a.parquet")
    assert says.startswith("a.parquet: cannot be read: ")
    assert says.endswith("; is it damaged or cut off?")


@pytest.mark.parametrize("content", [b"", b"neither this nor that"])
def test_what_is_not_parquet_is_refused(content: bytes) -> None:
    Path("a.parquet").write_bytes(content)
    assert refused(path="a.parquet").startswith("a.parquet: not a Parquet file: Parquet ")
