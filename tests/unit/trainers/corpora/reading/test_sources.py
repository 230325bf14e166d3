"""Which files and parts a source has, and when its hash changes."""

import dataclasses
import itertools
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.recipe.section import identity
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import Part, content_hash, found_files, parts

ROWS = [{"text": "这家酒店很好", "label": "good"}, {"text": "two words", "label": "bad"}]
KEY = "corpora.sources.x"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/1.txt", ["1"]),
        ("a/*.txt", ["1", "2"]),
        ("a/[2-9].txt", ["2"]),
        ("**/*.txt", ["1", "2", "3"]),
        ("{here}/a/1.txt", ["1"]),
        ("{here}/*/?.txt", ["1", "2", "3"]),
        ("~/b/3.txt", ["3"]),
        ("file://{here}/a/1.txt", ["1"]),
        ("file://{here}/a/*.txt", ["1", "2"]),
        ("file://{here}/*/*.txt", ["1", "2", "3"]),
        ("file://{here}/**/*.txt", ["1", "2", "3"]),
        ("file://{here}/a/[2-9].txt", ["2"]),
        ("file://{here}/?/3.txt", ["3"]),
    ],
)
def test_files_are_found_by_glob_and_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a/2.txt", "a/1.txt", "b/3.txt", "b/4.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(Path(name).stem)
    source = Source(path=pattern.format(here=tmp_path))
    found = found_files(source, KEY).files
    assert [Path(file).stem for file in found] == expected
    assert [next(read(source, Part(file))).text for file in found] == expected


def seen(source: Source, part: Part) -> list[tuple[str | None, str | None, str]]:
    """Documents without their places, which are lines in a whole file and bytes in its ranges."""
    return [(d.text, d.label, d.problem.reason if d.problem else "") for d in read(source, part)]


LINES = st.sampled_from(
    [
        *(b'{"text": "one"}', '{"text": "二"}'.encode(), b'{"text": 3}', b"[1]", b"{"),
        *(b"", b" ", b"\r", b"\xff", b"x" * 40),
    ]
)


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.lists(LINES, max_size=12),
    ended=st.booleans(),
    part_bytes=st.integers(1, 80),
    kind=st.sampled_from(["text", "jsonl"]),
    limit=st.sampled_from([32, 1 << 20]),
)
def test_the_parts_of_a_file_are_the_file(
    monkeypatch: pytest.MonkeyPatch,
    lines: Sequence[bytes],
    ended: bool,
    part_bytes: int,
    kind: str,
    limit: int,
) -> None:
    monkeypatch.setattr("trainers.corpora.reading.formats.rows.MAX_ROW_BYTES", limit)
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    Path("a.txt").write_bytes(content)
    source = Source.model_validate({"path": "a.txt", "format": kind})
    cut = parts(source, KEY, part_bytes)
    assert len(cut) == max(1, -(-len(content) // part_bytes))
    (whole,) = parts(source, KEY)
    assert [d for part in cut for d in seen(source, part)] == seen(source, whole)


@pytest.mark.parametrize("uri", ["a.jsonl", "file://{here}/a.jsonl"])
def test_where_a_document_stands_is_a_line_or_a_byte(uri: str, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {number}"}).encode() for number in range(9)]
    content = b"\n".join(lines)
    Path("a.jsonl").write_bytes(content)
    source = Source(path=uri.format(here=tmp_path))
    first, second = parts(source, KEY, part_bytes=len(content) - 1)
    assert [d.where.rpartition("a.jsonl:")[2] for d in read(source, first)] == list("12345")
    offsets = [int(d.where.rpartition(":byte ")[2]) for d in read(source, second)]
    assert [content[offset:].splitlines()[0] for offset in offsets] == lines[5:]


def write_parquet(sizes: Sequence[int]) -> None:
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter("a.parquet", schema) as out:
        for number, size in enumerate(sizes):
            rows = [{"text": f"{number} {row} {os.urandom(50).hex()}"} for row in range(size)]
            out.write_table(pa.Table.from_pylist(rows, schema))


@pytest.mark.parametrize("part_bytes", [1, 3000, 10_000, 1 << 30])
@pytest.mark.parametrize("sizes", [(), (0,), (5, 40, 40, 1, 0, 90), (1, 1, 200), (7, 0)])
def test_the_parts_of_parquet_are_row_groups(sizes: tuple[int, ...], part_bytes: int) -> None:
    write_parquet(sizes)
    source = Source(path="a.parquet")
    cut = parts(source, KEY, part_bytes)
    assert 1 <= len(cut) <= max(1, len(sizes))
    assert len(cut) == 1 or part_bytes < 1 << 30
    assert [d for part in cut for d in read(source, part)] == [*read(source, Part(cut[0].file))]


@pytest.mark.parametrize("count", [1, 7])
def test_the_parts_of_a_dataset_are_rows(count: int) -> None:
    import datasets

    rows = {"text": [f"text {number}" for number in range(count)]}
    datasets.Dataset.from_dict(rows).save_to_disk("saved")
    source = Source(dataset="saved")
    cut = parts(source, KEY, part_rows=3)
    ends = {1: [0, 1], 7: [0, 2, 4, 7]}[count]
    assert cut == [Part(None, begin, end) for begin, end in itertools.pairwise(ends)]
    assert [d for part in cut for d in read(source, part)] == [*read(source, Part(None))]


def test_a_part_goes_through_json_and_pickle() -> None:
    part = Part("a.txt", 5, 9)
    assert Part(**json.loads(json.dumps(dataclasses.asdict(part)))) == part
    assert pickle.loads(pickle.dumps(part)) == part


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Stands for the hub, which has one dataset, in three files; the revisions that it is asked for
    a commit of."""
    import datasets
    import huggingface_hub

    for number in range(3):
        table = pa.table({"text": [f"text {number}-{row}" for row in range(4)]})
        pq.write_table(table, f"{number}.parquet")
    load = datasets.load_dataset

    def load_dataset(dataset: str, split: str, revision: str, streaming: bool) -> Any:
        assert (dataset, revision, streaming) == ("some/where", COMMIT, True)
        files = [f"{number}.parquet" for number in range(3)]
        return load("parquet", data_files={"train": files}, split=split, streaming=True)

    asked = []

    def dataset_info(self: Any, dataset: str, revision: str | None) -> Any:
        asked.append(revision)
        return huggingface_hub.DatasetInfo(id=dataset, sha=COMMIT)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    return asked


@pytest.mark.parametrize("revision", [None, "v1.0", COMMIT])
def test_the_parts_of_a_dataset_on_the_hub_are_its_files_at_one_commit(
    hub: list[str | None], revision: str | None
) -> None:
    source = Source(dataset="some/where", revision=revision)
    found = parts(source, KEY)
    assert found == [Part(None, number, number + 1, COMMIT) for number in range(3)]
    assert hub == ([] if revision == COMMIT else [revision])
    for part in found:
        documents = list(read(source, part))
        assert [document.text for document in documents] == [
            f"text {part.begin}-{row}" for row in range(4)
        ]
        assert documents[2].where == f"some/where:file {part.begin}:row 2"


def test_what_is_not_on_the_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    def dataset_info(self: Any, dataset: str, revision: str | None) -> Any:
        raise HTTPError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    with pytest.raises(UserError, match="dataset: cannot load 'some/where': no route"):
        parts(Source(dataset="some/where"), KEY)


def test_another_revision_is_another_source() -> None:
    one, other = (Source(dataset="some/where", revision=name) for name in (COMMIT, "main"))
    assert identity(one) != identity(other)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.txt.bz2", "a.tar.gz", "a.tgz"])
def test_what_is_read_from_its_beginning_is_one_part(name: str) -> None:
    Path(name).write_bytes(b"x" * 100)
    assert parts(Source(path=name), KEY, part_bytes=1) == [Part(str(Path(name).absolute()))]


def test_parts_follow_the_order_of_the_files_and_are_of_equal_size() -> None:
    for name, size in (("b.txt", 25), ("a.txt", 10), ("c.txt", 0)):
        Path(name).write_bytes(b"x" * size)
    found = parts(Source(path="*.txt"), KEY, part_bytes=10)
    assert [(Path(part.file or "").name, part.begin, part.end) for part in found] == [
        ("a.txt", 0, None),
        ("b.txt", 0, 8),
        ("b.txt", 8, 16),
        ("b.txt", 16, 25),
        ("c.txt", 0, None),
    ]


def hash_now(**source: Any) -> str:
    content_hash.cache_clear()  # it lasts for a process
    return content_hash(Source(**source), "corpora.sources.a")


def test_the_content_hash_follows_names_and_bytes() -> None:
    Path("a.txt").write_text("one")
    first = hash_now(path="*.txt")
    assert hash_now(path="*.txt") == first
    Path("a.txt").write_text("two")
    changed = hash_now(path="*.txt")
    Path("b.txt").write_text("")
    added = hash_now(path="*.txt")
    Path("b.txt").rename("c.txt")
    renamed = hash_now(path="*.txt")
    assert len({first, changed, added, renamed}) == 4


def test_the_content_hash_of_a_large_file_reads_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.corpora.reading.sources.WHOLE_BYTES", 10)
    data = bytearray(3 << 20)

    def hashed(time: int) -> str:
        Path("a.txt").write_bytes(data)
        os.utime("a.txt", (time, time))
        return hash_now(path="a.txt")

    hashes = [hashed(time=1)]
    for place in (0, len(data) - 1):
        data[place] ^= 1
        hashes.append(hashed(time=1))
    hashes.append(hashed(time=2))
    assert len(set(hashes)) == 4


def test_the_content_hash_of_a_dataset_follows_its_state() -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk("saved")
    first = hash_now(dataset="saved")
    datasets.Dataset.from_list(ROWS[:1]).save_to_disk("saved")
    assert hash_now(dataset="saved") != first


def test_a_star_does_not_cross_folders(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text("two")
    for start in (f"{tmp_path}", f"file://{tmp_path}"):
        found = found_files(Source(path=f"{start}/*.txt"), KEY).files
        assert [Path(file).name for file in found] == ["2.txt"]
