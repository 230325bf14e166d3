"""CoNLL and its like: sentences of lines, a word and its tag a line."""

import bz2
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats import conll, rows
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


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_sentence_of_the_word_that_comments_begin_with(at: int) -> None:
    """Its lines have the shape of those of other sentences; at the beginning the next one tells."""
    blocks = ["a X O\n", "b X O\n"]
    blocks.insert(at, "# X B-A\n# X I-A\n")
    found = sentences("# a comment of a file\n\n" + "\n".join(blocks))
    assert found[at] == [["#", "#"], ["B-A", "I-A"]]
    assert len(found) == 3


def test_lines_of_which_no_other_tells_what_they_are_count_as_unreadable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [str(one.problem)[:8] for one in documents("# O\n\n# O\n")] == ["no words"] * 2
    monkeypatch.setattr(conll, "MOST_UNDECIDED", 2)
    found = documents("# O\n\n" * 4 + "a O\n\n# O\n")
    assert [one.text for one in found] == [None, None, None, "#", "a", "#"]


@pytest.mark.parametrize(
    "content",
    [
        "我 O\n们 B-A\n\n好 O\n",
        "我 O \n们 B-A\t\n\n好 O",
        "我\tO\n们\tB-A\t\n\n好\tO",
        "我\tO\r\n们\tB-A\r\n\r\n好\tO\r\n",
        "\ufeff\n\n我 O\n们 B-A\n \t\n\n\n好 O\n\n",
        "-DOCSTART- -X- O\n\n我 X O\n们 X B-A\n-DOCSTART-\n\n-DOCSTART- (2)\n\n好 X O",
        "-DOCSTART-\tO\n\n我\tO\n们\tB-A\n\n好\tO",
        "我 a b O\n们 a b B-A\n\n好 a b O",
    ],
)
def test_a_file_means_the_same_however_it_is_laid_out(content: str) -> None:
    assert sentences(content) == [[["我", "们"], ["O", "B-A"]], [["好"], ["O"]]]


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
