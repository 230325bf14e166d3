"""Rows of entities in every form, with what is wrong with some, and what is told of others."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from tests.entities import ASTRONAUT, FLAG, labelled_words, tags_of
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.readers import Document
from trainers.tasks.ner.rows import Entity, EntityRows, Marked, of_words
from trainers.tasks.ner.tags import WordSpan

CLUENER = {
    "text": "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。",
    "entities": {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}},
}
ROWS = EntityRows()


def checked(task: EntityRows = ROWS, **values: Any) -> Document:
    text = values.pop("text", "")
    (document,) = task.checked([Document(text, None, "a:1", values=values)])
    return document


def cleaned(
    task: EntityRows = ROWS, clean: Clean | None = None, **values: Any
) -> tuple[str, list[tuple[str, str]], dict[str, int]]:
    """The text, its entities as text and label, and what is told of them."""
    counts = Counts()
    document = checked(task, **values)
    assert document.problem is None, document.problem
    document = task.cleaned_document(document, Normalizer(clean or Clean(), counts))
    text = document.text or ""
    assert {*document.values} == {"entities"}
    found = document.values["entities"]
    assert found == sorted(found, key=lambda one: (one["start"], one["end"], one["label"]))
    named = [(text[one["start"] : one["end"]], one["label"]) for one in found]
    return text, named, dict(counts.noted)


def spans(*found: tuple[int, int, str]) -> list[Entity]:
    return [Entity(start=start, end=end, label=label) for start, end, label in found]


def test_examples_have_entities_and_no_words() -> None:
    schema = ROWS.example_schema
    assert schema.names == ["id", "text", "group", "source", "entities"]
    entity = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.large_string())])
    assert schema.field("entities").type == pa.list_(entity)


@pytest.mark.parametrize(
    "written",
    [
        [{"start": 0, "end": 2, "label": "PER"}],
        [{"start_offset": "0", "end_offset": 2.0, "type": "PER", "id": 7}],
        [{"begin": 0, "end": 2, "entity_group": "PER"}],
        [[0, 2, "PER"]],
        {"PER": {"张三": [[0, 1]]}},
    ],
)
def test_entities_are_read_however_they_are_written(written: Any) -> None:
    written = json.loads(json.dumps(written))
    assert cleaned(text="张三来了", entities=written) == ("张三来了", [("张三", "PER")], {})


def test_official_rows_of_cluener() -> None:
    text, found, noted = cleaned(**CLUENER)
    assert found == [("浙商银行", "company"), ("叶老桂", "name")]
    assert (text, noted) == (CLUENER["text"].replace("，", ","), {})
    assert cleaned(text="没有", entities={})[1] == []


@pytest.mark.parametrize(
    ("entities", "says"),
    [
        ([[0, 9, "PER"]], "an entity outside its text: 'PER' at [0, 9) of 6 characters"),
        ([[-1, 2, "PER"]], "an entity outside its text"),
        ([[2, 2, "PER"]], "an entity without a character"),
        ([[3, 1, "PER"]], "an entity without a character"),
        ([[4, 5, "PER"]], "an entity without a character"),
        ([[0, 2, ""]], "an entity without a label"),
        ([[0, 2]], "entities is not what the task needs: entities.0"),
        ([{"start": 0, "label": "PER"}], "entities.0.end: Field required"),
        ([{"start": "a", "end": 2, "label": "PER"}], "entities.0.start: "),
        (["PER"], "entities is not what the task needs"),
        ("PER", "entities is not what the task needs"),
        ({"PER": {"张三": [[0, 2]]}}, "'张三' has 2 characters, and [0, 2] has 3"),
        ({"PER": {"张三": [0, 1]}}, "0 is no place [first, last]"),
        ({"PER": [[0, 1]]}, "'PER' has no object {words: [[first, last], ...]}"),
    ],
)
def test_spans_that_cannot_be_are_a_problem(entities: Any, says: str) -> None:
    document = checked(text="张三来了 好", entities=entities)
    assert document.text is None
    assert says in str(document.problem)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Noe\u0308l", 3),
        (f"{ASTRONAUT} flies", 1),
        (f"{ASTRONAUT} flies", 2),
        ("\U0001f44d\U0001f3fd", 1),
        (f"{FLAG}\U0001f1eb\U0001f1f7", 3),
        ("か\u3099く", 1),
        ("\u1100\u1161\u11a8", 2),
        ("好\ufe0f的", 1),
        (" \u0301a", 1),
    ],
)
def test_a_span_that_cuts_a_character_is_a_problem(text: str, end: int) -> None:
    problem = checked(text=f"x{text}", entities=[[0, end + 1, "X"]]).problem
    assert problem is not None
    assert problem.reason == "an entity that cuts a character"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Noe\u0308l", 4),
        (f"{ASTRONAUT} flies", 3),
        (f"{FLAG}\U0001f1eb\U0001f1f7", 2),
        ("今天很好", 2),
        ("one\r\ntwo", 4),
        ("ﾊﾟ好", 2),
    ],
)
def test_a_span_of_whole_characters_is_none(text: str, end: int) -> None:
    assert checked(text=text, entities=[[0, end, "X"]]).problem is None


@pytest.mark.parametrize(
    ("tokens", "tags", "says"),
    [
        (["a", "b"], ["O"], "tokens and tags of unequal number: 2 and 1"),
        (["a"], ["Q-PER"], "unknown tag: 'Q-PER' is neither"),
        (["a"], [3], "tags is not what the task needs: tags.0"),
        ("a", ["O"], "tokens is not what the task needs"),
    ],
)
def test_tags_that_cannot_be_are_a_problem(tokens: Any, tags: Any, says: str) -> None:
    document = checked(tokens=tokens, tags=tags)
    assert document.text is None
    assert says in str(document.problem)


def test_words_become_a_text_with_entities() -> None:
    tokens = ["Anna", "\u200bvon ", "Ａrnim", "", "sings", "in", "北京", "市", "."]
    tags = ["B-PER", "I-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]
    text, found, noted = cleaned(tokens=tokens, tags=tags)
    assert text == "Anna von Arnim sings in北京市."
    assert found == [("Anna von Arnim", "PER"), ("北京市", "LOC")]
    assert noted == {"words without a character": 1}


def test_bare_tags_are_named_by_the_map() -> None:
    names = {"nrf": "person", "nrg": "person", "nt": "organisation"}
    task = EntityRows(tags="bare", label_map=names)
    tokens, tags = ["江", "泽民", "在", "新华社", "讲话"], ["nrf", "nrg", "p", "nt", "O"]
    text, found, noted = cleaned(task, tokens=tokens, tags=tags)
    assert text == "江泽民在新华社讲话"
    assert found == [("江泽民", "person"), ("新华社", "organisation")]
    assert noted == {"words whose tag is not in finetune.label_map": 1}


def test_other_labels_are_named_by_the_map_too() -> None:
    task = EntityRows(label_map={"PER": "person"})
    noted = {"entities whose label is not in finetune.label_map": 1}
    named = "Anna in Rome", [("Anna", "person")], noted
    assert cleaned(task, text="Anna in Rome", entities=[[0, 4, "PER"], [8, 12, "LOC"]]) == named
    assert cleaned(task, tokens=["Anna", "in", "Rome"], tags=["S-PER", "O", "S-LOC"]) == named


def test_a_file_of_another_kind_is_read_for_a_model_by_its_labels_too() -> None:
    """A model of `word/TAG` text is evaluated on BIO, with its own names or those of the map."""
    task = EntityRows(tags="bare", label_map={"nr": "person"}).for_labels(["person", "place"])
    tokens = ["Anna", "Li", "in", "Rome"]
    found = [("Anna Li", "person"), ("Rome", "place")]
    for tags in (["B-person", "I-person", "O", "B-place"], ["nr", "person", "O", "place"]):
        assert cleaned(task, tokens=tokens, tags=tags) == ("Anna Li in Rome", found, {})
    assert ROWS.for_labels(["person"]) is ROWS


def test_what_is_worth_telling_is_counted() -> None:
    text = "北京大学 校长"
    written = [[0, 4, "ORG"], [0, 2, "LOC"], [0, 2, "LOC"], [2, 7, "PER"], [0, 4, "X"]]
    _, found, noted = cleaned(text=text, entities=written)
    assert [label for _, label in found] == ["LOC", "ORG", "X", "PER"]
    assert noted == {
        "entities given twice": 1,
        "entities nested in others": 2,
        "entities that overlap others": 1,
    }
    _, _, noted = cleaned(tokens=["a", "b", "c"], tags=["I-X", "E-X", "B-X"])
    assert noted == {
        "entities that begin with no first tag (as those of IOB1)": 1,
        "entities that end with no last tag": 1,
    }


def test_entities_move_with_what_cleaning_does() -> None:
    clean = Clean(mask=("phone",), boilerplate=True)
    text = "  ＡＢＣ公司\u200b 电话１３８１２３４５６７８\r\n责任编辑 李四\r\n王五 "
    places = {part: text.index(part) for part in ("ＡＢＣ公司", "１３８１", "李四", "王五 ")}
    written = [[start, start + len(part), part[:1]] for part, start in places.items()]
    assert cleaned(text=text, entities=written, clean=clean) == (
        "ABC公司 电话<PHONE>\n王五",
        [("ABC公司", "Ａ"), ("<PHONE>", "１"), ("王五", "王")],
        {"entities in what cleaning removes": 1},
    )


def tags_again(marked: Marked, words: Sequence[str], scheme: str) -> list[str]:
    """Tags of words from the spans of their text: a word is in the span that it begins in."""
    there, begins, at = [], [], 0
    for number, word in enumerate(words):
        at += marked.text[at:].index(word)
        if word:
            there.append(number)
            begins.append(at)
        at += len(word)
    inside = [
        [place for place, at in enumerate(begins) if one["start"] <= at < one["end"]]
        for one in marked.entities
    ]
    spans = [
        WordSpan(places[0], places[-1] + 1, one["label"])
        for places, one in zip(inside, marked.entities, strict=True)
    ]
    tags = ["O"] * len(words)
    for number, tag in zip(there, tags_of(spans, len(there), scheme), strict=True):
        tags[number] = tag
    return tags


def assert_identity(words: Sequence[str], tags: Sequence[str], scheme: str) -> None:
    marked = of_words(words, tags, "prefixed")
    assert isinstance(marked, Marked)
    assert tags_again(marked, words, scheme) == tags


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES", "BMES"])
@given(data=st.data())
def test_labels_to_spans_to_labels_is_the_identity(scheme: str, data: st.DataObject) -> None:
    """transformers#38818, #18111: words with emoji, CJK, spaces, and words without tokens."""
    assert_identity(*data.draw(labelled_words(scheme)), scheme)


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB2", "B-PER I-PER B-LOC I-LOC O I-LOC B-LOC B-PER"),
        ("BIOES", "B-PER E-PER B-LOC I-LOC O E-LOC S-LOC S-PER"),
        ("BMES", "B-PER E-PER B-LOC M-LOC O E-LOC S-LOC S-PER"),
    ],
)
def test_the_same_for_a_word_of_each_kind(scheme: str, tags: str) -> None:
    """An emoji, CJK, a space inside, no token, no character, white space, joined emoji."""
    words = ["\U0001f600", "北京", "New York", "\ufe0f", "", " ", ASTRONAUT, "天"]
    assert_identity(words, tags.split(), scheme)


@given(labelled_words())
def test_words_are_cleaned_as_texts_are(labelled: tuple[list[str], list[str]]) -> None:
    document = checked(tokens=labelled[0], tags=labelled[1])
    if document.problem is not None:
        assert document.problem.reason in (
            "an entity that cuts a character", "an entity without a character"
        )  # fmt: skip
        return
    marked = of_words(*labelled, "prefixed")
    assert isinstance(marked, Marked)
    counts = Counts()
    found = ROWS.cleaned_document(document, Normalizer(Clean(), counts))
    assert found.text == normalize(marked.text, Clean())
    for one in found.values["entities"]:
        part = found.text[one["start"] : one["end"]]
        assert part
        assert part == part.strip()
    lost = counts.noted["entities in what cleaning removes"] + counts.noted["entities given twice"]
    assert len(found.values["entities"]) == len(marked.entities) - lost


def test_labels_are_those_of_the_entities() -> None:
    values: Mapping[str, Any] = {"entities": spans((0, 1, "b"), (1, 2, "a"), (3, 4, "b"))}
    assert ROWS.labels_of(values) == ["a", "b"]
    ROWS.refuse_labels({"a": "a:1"})
    with pytest.raises(UserError, match=r"no rows have entities called nr, ns; see finetune\.tags"):
        EntityRows(label_map={"nr": "person", "ns": "place"}).refuse_labels({})


def test_problem_is_of_what_the_map_takes() -> None:
    task = EntityRows(label_map={"PER": "person"})
    assert checked(task, text="Anna", entities=[[0, 99, "X"], [0, 4, "PER"]]).problem is None
    found = checked(task, text="Anna", entities=[[0, 99, "PER"]]).problem
    assert isinstance(found, Problem)
