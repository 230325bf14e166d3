"""Files in other encodings than UTF-8 are read where the recipe or a mark says which, and told of
with the encoding that they seem to be in where not."""

import bz2
import codecs
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.errors import UserError
from tests.reviews import reviews
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.reading.sources import parts

KEY = "corpora.sources.x"
TEXTS = ["这家酒店很好", "two words", "味道不错，第二次购买", "€ 5 ½"]
SIMPLIFIED = list(dict.fromkeys(reviews()))[:40]
TRADITIONAL = ["這家酒店很好，服務熱情，下次還會再來", "味道不錯，但是房間潮濕，隔音很差"] * 9
JAPANESE = [
    "このホテルはとても良かったです。また来たいと思います。",
    "商品が届くのが遅くて残念",
] * 9
KOREAN = ["이 호텔은 정말 좋았어요. 다시 오고 싶습니다.", "배송이 너무 늦어서 실망했습니다."] * 9
RUSSIAN = ["Отель очень понравился, обслуживание отличное", "Телефон не работает"] * 9
GERMAN = ["Die Lieferung war sehr spät, schade für das schöne Gerät", "Größe passt, hübsch"] * 9


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(part_bytes: int = 1 << 30, **source: Any) -> list[Document]:
    made = Source(**source)
    return [d for part in parts(made, KEY, part_bytes) for d in read(made, part)]


def written(kind: str, texts: list[str]) -> str:
    match kind:
        case "jsonl":
            rows = [{"text": text, "label": "x"} for text in texts]
            return "".join(f"{json.dumps(row, ensure_ascii=False)}\r\n" for row in rows)
        case "json":
            return json.dumps([{"text": text} for text in texts], ensure_ascii=False, indent=1)
        case "csv":
            return "text,label\r\n" + "".join(f'"{text}",x\r\n' for text in texts)
        case "tsv":
            return "text\tlabel\r\n" + "".join(f"{text}\tx\r\n" for text in texts)
    return "".join(f"{text}\r\n" for text in texts)


KINDS = ("txt", "jsonl", "json", "csv", "tsv")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "utf_32_be", "utf-8"])
def test_a_file_in_an_encoding_is_read(kind: str, encoding: str) -> None:
    """hiyouga/LLaMA-Factory#7016; parts of a file begin at lines, and these are in no such file."""
    Path(f"a.{kind}").write_bytes(written(kind, TEXTS).encode(encoding))
    for part_bytes in (1 << 30, 20):
        found = documents(part_bytes, path=f"a.{kind}", encoding=encoding)
        assert [(d.text or "").strip() for d in found] == TEXTS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_a_byte_order_mark_says_the_encoding(kind: str, form: str) -> None:
    """As Excel and Notepad write it."""
    Path(f"a.{kind}").write_bytes(("\ufeff" + written(kind, TEXTS)).encode(form))
    for part_bytes in (1 << 30, 20):
        assert [(d.text or "").strip() for d in documents(part_bytes, path=f"a.{kind}")] == TEXTS


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.zip"])
def test_compressed_files_and_members_have_encodings_too(name: str) -> None:
    content = written("csv", TEXTS).encode("gb18030")
    if name == "a.zip":
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("inside/a.csv", content)
    else:
        compress = gzip.compress if name.endswith("gz") else bz2.compress
        Path(name).write_bytes(compress(content))
    assert [d.text for d in documents(path=name, encoding="gb18030")] == TEXTS
    with pytest.raises(UserError, match=r"not UTF-8: it looks like gb18030"):
        list(cleaned(documents(path=name), Clean(), Counts()))


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_what_is_not_in_the_encoding_is_one_row(kind: str) -> None:
    lines = written(kind, TEXTS[:3]).encode("gb18030").splitlines(keepends=True)
    place = next(at for at, line in enumerate(lines) if TEXTS[1].encode() in line)
    lines[place] = lines[place].replace(b"two", b"t\xff\xffo")
    Path(f"a.{kind}").write_bytes(b"".join(lines))
    found = documents(path=f"a.{kind}", encoding="gb18030")
    assert [d.text and d.text.strip() for d in found] == [TEXTS[0], None, TEXTS[2]]
    assert found[1].problem == ("not gb18030", "")


@pytest.mark.parametrize(
    ("texts", "encoding", "named"),
    [
        (SIMPLIFIED, "gbk", "gb18030"),
        (SIMPLIFIED, "gb18030", "gb18030"),
        (SIMPLIFIED, "utf-16-le", "utf-16-le"),
        (SIMPLIFIED, "utf-16-be", "utf-16-be"),
        (TRADITIONAL, "big5", "big5"),
        (JAPANESE, "shift_jis", "cp932"),
        (JAPANESE, "euc_jp", "euc-jp"),
        (KOREAN, "euc_kr", "cp949"),
        (RUSSIAN, "cp1251", "cp1251"),
        (GERMAN, "cp1252", "cp1252"),
        (["plain letters alone", "and more"], "utf-16-le", "utf-16-le"),
        (["plain letters alone", "and more"], "utf-32-be", "utf-32-be"),
    ],
)
@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_the_encoding_is_detected_and_named(
    kind: str, texts: list[str], encoding: str, named: str
) -> None:
    Path(f"a.{kind}").write_bytes(written(kind, texts).encode(encoding))
    with pytest.raises(UserError) as caught:
        list(cleaned(documents(path=f"a.{kind}"), Clean(), Counts()))
    looks = str(caught.value).partition("it looks like ")[2].partition(";")[0]
    assert named in looks.split(" or ")
    suggested = looks.split(" or ")[0]
    assert f"set the source's `encoding: {suggested}`, or convert the file" in str(caught.value)
    found = documents(path=f"a.{kind}", encoding=named)
    assert [(d.text or "").strip() for d in found] == [text.strip() for text in texts]


def test_a_wrong_encoding_is_told_with_the_right_one() -> None:
    Path("a.txt").write_bytes("\n".join(SIMPLIFIED).encode())
    with pytest.raises(UserError, match=r"a.txt:1: not big5: it looks like utf-8"):
        list(cleaned(documents(path="a.txt", encoding="big5"), Clean(), Counts()))


@pytest.mark.parametrize("name", ["gbk2", "rot13", "base64", ""])
def test_an_encoding_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no encoding of text that Python knows; such are"):
        Source(path="a.txt", encoding=name)


@pytest.mark.parametrize("key", ["encoding", "delimiter", "package"])
def test_what_is_said_of_files_does_not_go_with_a_dataset(key: str) -> None:
    with pytest.raises(ValidationError, match="does not go with `dataset`"):
        Source.model_validate({"dataset": "a/b", key: ";" if key == "delimiter" else "big5"})


def test_marks_are_those_of_the_standard() -> None:
    Path("a.txt").write_bytes(codecs.BOM_UTF16_LE + "很好".encode("utf-16-le"))
    assert [d.text for d in documents(path="a.txt")] == ["很好"]
