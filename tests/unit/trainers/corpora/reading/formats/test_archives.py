"""Archives: their members are read as files are."""

import contextlib
import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, every_text, read
from trainers.corpora.reading.sources import Part, parts

NAMES = ("a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "a.tar.bz2", "A.TAR")
KEY = "corpora.sources.x"
DAMAGED = "; is it damaged or cut off?"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


MEMBERS = {
    "books/one.txt": "一\n二\n".encode(),
    "README.md": b"not read",
    "books/two.jsonl": b'{"text": "three"}\n\n{"text": "four"}\n',
    "__MACOSX/books/._one.txt": b"\xff\xfe",
    "books/_temporary/one.txt": b"\xff\xfe",
    "books/~$one.txt": b"\xff\xfe",
    "books/.hidden.txt": b"\xff\xfe",
    "empty.txt": b"",
    "three.csv": b'label,text\nx,"five\nlines"\n',
    "four.txt.gz": gzip.compress(b"six\n"),
}
READ = [
    ("books/one.txt:1", "一\n"),
    ("books/one.txt:2", "二\n"),
    ("books/two.jsonl:1", "three"),
    ("books/two.jsonl:3", "four"),
    ("three.csv:2", "five\nlines"),
    ("four.txt.gz:1", "six\n"),
]


def write(name: str, members: dict[str, bytes]) -> None:
    if name.endswith(".zip"):
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as out:
            out.mkdir("books")
            for member, content in members.items():
                out.writestr(member, content)
        return
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        folder = tarfile.TarInfo("books")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    codec = {"gz": "gzip", "tgz": "gzip", "zst": "zstd", "bz2": "bz2"}.get(name.split(".")[-1])
    with pa.output_stream(name, compression=codec) as out:
        out.write(plain.getvalue())


def documents(part_bytes: int = 1 << 30, **source: Any) -> list[Document]:
    made = Source(**source)
    return [d for part in parts(made, KEY, part_bytes) for d in read(made, part)]


def refused(**source: Any) -> str:
    with pytest.raises(UserError) as caught:
        documents(**source)
    return str(caught.value).replace(f"{Path.cwd()}/", "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part_bytes", [1, 20, 1 << 30])
def test_members_with_a_known_ending_are_read(name: str, part_bytes: int) -> None:
    write(name, MEMBERS)
    found = documents(part_bytes, path=name)
    folder = f"{Path(name).absolute()}/"
    assert [(d.where.removeprefix(folder), d.text) for d in found] == READ
    assert list(Path.cwd().iterdir()) == [Path(name).absolute()]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_members_are_parts_together_until_they_are_large(name: str) -> None:
    write(name, MEMBERS)
    source = Source(path=name)
    assert parts(source, KEY) == [Part(str(Path(name).absolute()))]
    assert len(parts(source, KEY, part_bytes=1)) == 4, "an empty one goes with the next"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_an_archive_may_lie_anywhere(name: str, tmp_path: Path) -> None:
    write(name, MEMBERS)
    assert [d.text for d in documents(path=f"file://{tmp_path}/{name}")] == [t for _, t in READ]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_the_format_may_be_given_for_all_members(name: str) -> None:
    write(name, {"one": b'{"text": "a"}', "two.txt": b'{"text": "b"}', ".no": b"\xff"})
    assert [d.text for d in documents(path=name, format="jsonl")] == ["a", "b"]


def test_every_text_of_an_archive_is_read() -> None:
    write("a.tar", {"one.jsonl": b'{"q": "a", "r": "b"}', "two.txt": b"c"})
    assert list(every_text("a.tar", KEY)) == ["a", "b", "c"]


def test_a_row_that_cannot_be_read_is_named_by_its_member() -> None:
    write("a.zip", {"books/one.txt": b"fine\n\xff\n"})
    _, broken = documents(path="a.zip")
    assert broken.where == f"{Path.cwd()}/a.zip/books/one.txt:2"
    assert broken.problem is not None


def test_a_name_that_is_not_utf8_can_be_told() -> None:
    with tarfile.open("a.tar", "w") as tar:
        info = tarfile.TarInfo("\udcff.txt")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"fine"))
    (document,) = documents(path="a.tar")
    document.where.encode()


def test_links_in_a_tar_are_passed_over() -> None:
    with tarfile.open("a.tar", "w") as tar:
        info = tarfile.TarInfo("one.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
        tar.add(__file__, "two.txt")
    names = {document.where.rpartition(":")[0][-7:] for document in documents(path="a.tar")}
    assert names == {"two.txt"}


def test_an_encrypted_zip_is_refused() -> None:
    write("b.zip", {"one.txt": b"fine"})
    content = bytearray(Path("b.zip").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    Path("b.zip").write_bytes(content)
    assert "is encrypted, password required" in refused(path="b.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_an_archive_with_nothing_to_read_is_refused(name: str) -> None:
    write(name, {"README.md": b"hello"})
    assert refused(path=name) == (
        f"{name}: no member has a known ending (such as .txt or .jsonl); "
        "set the source's `format` if all are of one"
    )


def test_what_a_header_claims_costs_nothing() -> None:
    with tarfile.open("a.tar", "w") as tar:
        info = tarfile.TarInfo("one.txt")
        info.size = 1 << 45
        tar.addfile(info)
    assert refused(path="a.tar").startswith("a.tar: cannot be read: ")


def test_a_zip_of_a_later_version_is_refused() -> None:
    write("a.zip", {"one.txt": b"fine"})
    content = bytearray(Path("a.zip").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] = 99
    Path("a.zip").write_bytes(content)
    assert refused(path="a.zip") == "a.zip: cannot be read: zip file version 9.9" + DAMAGED


def test_parquet_in_an_archive_is_refused() -> None:
    write("a.tar", {"one.parquet": b"PAR1"})
    assert refused(path="a.tar") == (
        "a.tar: 'one.parquet' is Parquet, which is not read inside an archive; unpack it"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.6, 0.9])
def test_a_damaged_archive_is_never_read_in_part(name: str, kept: float) -> None:
    """Wherever it is cut off."""
    noise = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(4000)).encode()
    write(name, {f"{number}.txt": noise[number:] for number in range(3, 30, 3)})
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    says = refused(path=name)
    assert says.startswith(f"{name}: cannot be read: ")
    assert says.endswith(DAMAGED)


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_wrong_bytes_are_told_or_make_no_difference(
    name: str, wrong: list[tuple[float, int]]
) -> None:
    write(name, MEMBERS)
    content = bytearray(Path(name).read_bytes())
    for place, byte in wrong:
        content[int(place * len(content))] = byte
    Path(name).write_bytes(content)
    with contextlib.suppress(UserError):
        documents(part_bytes=20, path=name)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
def test_a_tar_cut_between_its_members_is_refused(blocks: int) -> None:
    write("a.tar", {"one.txt": b"one\n", "two.txt": b"two\n"})
    Path("a.tar").write_bytes(Path("a.tar").read_bytes()[: 512 * blocks])
    assert refused(path="a.tar").startswith("a.tar: cannot be read: ")


def test_a_broken_header_in_a_tar_is_refused() -> None:
    write("a.tar", {"one.txt": b"one\n", "two.txt": b"two\n"})
    content = bytearray(Path("a.tar").read_bytes())
    content[content.index(b"two.txt")] = 1
    Path("a.tar").write_bytes(content)
    assert refused(path="a.tar") == "a.tar: cannot be read: bad checksum" + DAMAGED


def test_a_wrong_byte_in_a_zip_is_refused() -> None:
    with zipfile.ZipFile("a.zip", "w") as out:
        out.writestr("one.txt", "the text\n")
    content = bytearray(Path("a.zip").read_bytes())
    content[content.index(b"the text")] ^= 1
    Path("a.zip").write_bytes(content)
    assert refused(path="a.zip").startswith("a.zip: cannot be read: Bad CRC-32")
