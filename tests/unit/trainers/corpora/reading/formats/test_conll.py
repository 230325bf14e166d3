"""CoNLL and its like: sentences of lines, a word and its tag a line."""

import bz2
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.readers import Document, first_columns, read
from trainers.corpora.reading.sources import parts

WANTED = {"text": "text", "tokens": "tokens", "tags": "tags"}
CONLL = """\
-DOCSTART- -X- O O

EU NNP I-NP B-ORG
rejects VBZ I-VP O
German JJ I-NP B-MISC
call NN I-NP O

Peter NNP I-NP B-PER
Blackburn NNP I-NP I-PER
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documents(content: str | bytes, name: str = "a.conll", **source: Any) -> list[Document]:
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    made = Source(path=name, **{"columns": WANTED, **source})
    return [d for part in parts(made, "x", part_bytes=8) for d in read(made, part)]


def sentences(content: str | bytes, name: str = "a.conll", **source: Any) -> list[list[list[str]]]:
    return [[d.values["tokens"], d.values["tags"]] for d in documents(content, name, **source)]


def test_a_sentence_has_words_tags_and_a_text() -> None:
    first, second = documents(CONLL)
    assert first.text == "EU rejects German call"
    assert first.values["tags"] == ["B-ORG", "O", "B-MISC", "O"]
    assert first.where.endswith("a.conll:3")
    assert second.values == {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]}
    assert {*first_columns(Source(path="a.conll"), ())} == {"tokens", "tags", "text"}
    texts = Source(path="a.conll").of_texts
    assert [d.text for part in parts(texts, "x") for d in read(texts, part)] == [
        "EU rejects German call", "Peter Blackburn"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.bio", "a.bmes", "a.iob", "a.CONLL"])
def test_endings_are_known(name: str) -> None:
    assert sentences("我 B-A\r\n们 E-A\r\n \t\r\n\r\n好 O", name) == [
        [["我", "们"], ["B-A", "E-A"]], [["好"], ["O"]]
    ]  # fmt: skip


def test_compressed_encoded_and_with_a_mark() -> None:
    assert sentences(bz2.compress("我 O\n".encode()), "a.bio.bz2") == [[["我"], ["O"]]]
    assert sentences("我 O\n".encode("gb18030"), "a.txt", format="conll", encoding="gb18030") == [
        [["我"], ["O"]]
    ]
    assert sentences(b"\xef\xbb\xbf# O\na O\n", "a.bio") == [[["#", "a"], ["O", "O"]]]


def test_columns_between_tabs_may_have_spaces() -> None:
    assert sentences("New York\tNP\tB-LOC\n \tX\tO\n\u3000\tX\tO\n") == [
        [["New York", " ", "\u3000"], ["B-LOC", "O", "O"]]
    ]
    assert sentences("\u3000 O\na  O\n") == [[["\u3000", "a"], ["O", "O"]]]


def test_comments_are_none_of_a_sentence() -> None:
    told = (
        "# newdoc\n# id 7\n# sent_id = 1\n# text = # me\n#\tX\tO\nme\tX\tB-PER\n#\tX\tO\n\n# end\n"
    )
    assert sentences(told) == [[["#", "me", "#"], ["O", "B-PER", "O"]]]


def test_a_word_without_a_tag_is_a_problem_of_its_sentence() -> None:
    good, bad = documents("a O\n\nb O\nc\n")
    assert good.text == "a"
    assert str(bad.problem) == "a word without a tag: 'c'"
    assert bad.where.endswith(":3")
    (text,) = documents("b O\nc\n", columns={"text": "text"})
    assert text.text == "b c", "pretraining needs no tags"


def test_what_is_not_utf8_is_a_problem_of_its_sentence() -> None:
    bad, good = documents(b"\xfa\xfb O\nb O\n\nc O\n")
    assert bad.problem is not None
    assert "not UTF-8" in bad.problem.reason
    assert good.text == "c"


def test_a_sentence_without_end_is_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 100)
    first, second, third = documents("a O\n" * 100 + "\nb O\n\n" + "c" * 200 + "\nd O\n\n")
    assert first.problem is not None
    assert first.problem.reason.startswith("row over ")
    assert second.text == "b"
    assert third.problem == first.problem


def test_other_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"no column 'words': set as `columns.tokens`; columns: to"):
        documents("a O\n", columns={"tokens": "words"})
