"""What a task says of its rows, and what follows for reading and writing them."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pytest
from pydantic import BeforeValidator
from typing_extensions import TypedDict

from trainers.corpora.examples.task_rows import LABELLED_TEXTS, Role, TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.readers import Document


class Span(TypedDict):
    start: int
    end: int
    kind: str


class Names(TaskRows):
    """Spans of a text, from either form."""

    roles: ClassVar[Any] = {
        "text": Role("text", "a text"),
        "entities": Role("value", "spans of it", list[Span]),
        "tokens": Role("value", "words", list[str], is_kept=False),
        "tags": Role("value", "a tag of each", list[str], is_kept=False),
    }
    row_forms: ClassVar[Any] = (("text", "entities"), ("tokens", "tags"))

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        is_even = len(row.get("tokens", ())) == len(row.get("tags", ()))
        return None if is_even else Problem("words and tags of unequal number")

    def cleaned(self, row: Mapping[str, Any], clean: Callable[[str], str]) -> dict[str, Any]:
        if "tokens" not in row:
            return super().cleaned(row, clean)
        text, entities = "", []
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            if tag != "O":
                entities.append(Span(start=len(text), end=len(text) + len(word), kind=tag))
            text += f"{word} "
        return {"text": text.rstrip(), "entities": entities}


class Pairs(TaskRows):
    roles: ClassVar[Any] = {
        "first": Role("text", "a text"),
        "second": Role("text", "another"),
        "alike": Role("value", "how much they are", float),
    }


def cleaned(task: TaskRows, **values: Any) -> Document:
    text = values.pop("text", "")
    (document,) = task.checked([Document(text, None, "a:1", values=values)])
    return task.cleaned_document(document, str.lower)  # type: ignore[arg-type]


def test_by_default_a_row_is_a_text_with_a_label() -> None:
    assert LABELLED_TEXTS.example_schema.names == ["id", "text", "label", "group", "source"]
    assert cleaned(LABELLED_TEXTS, text="One").text == "one"


def test_values_are_typed_as_arrow_has_them() -> None:
    spans = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.large_string())])
    schema = Names().example_schema
    assert schema.names == ["id", "text", "group", "source", "entities"]
    assert schema.field("entities").type == pa.list_(spans)
    assert Pairs().example_schema.field("alike").type == pa.float64()


def test_one_form_of_rows_becomes_the_other() -> None:
    document = cleaned(Names(), tokens=["Anna", "sings"], tags=["NAME", "O"])
    assert document.text == "Anna sings"
    span = {"start": 0, "end": 4, "kind": "NAME"}
    assert document.values == {"entities": [span]}
    assert cleaned(Names(), text="ANNA", entities=[span]).text == "anna"


def test_what_is_wrong_with_a_row_as_a_whole_is_its_problem() -> None:
    values = {"tokens": ["Anna"], "tags": []}
    (document,) = Names().checked([Document("", None, "a:1", values=values)])
    assert (document.text, document.problem) == (None, Problem("words and tags of unequal number"))
    broken = Document(None, None, "a:2", Problem("not JSON"))
    assert [*Names().checked([broken])] == [broken]


def test_other_forms_of_a_value_become_its_type() -> None:
    class Numbers(TaskRows):
        roles: ClassVar[Any] = {
            "text": Role("text", "a text"),
            "numbers": Role("value", "some", Annotated[list[int], BeforeValidator(str.split)]),
        }

    assert Numbers().example_schema.field("numbers").type == pa.list_(pa.int64())
    assert cleaned(Numbers(), text="a", numbers="1 2").values == {"numbers": [1, 2]}


def test_a_pair_is_compared_by_both_texts() -> None:
    document = cleaned(Pairs(), first="One", second="TWO", alike="0.5")
    assert document.text == "one\ntwo"
    assert document.values == {"first": "one", "second": "two", "alike": 0.5}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"first": 3, "second": "b", "alike": 1}, "first is not what the task needs: first: "),
        ({"first": "a", "second": "b", "alike": "much"}, "alike is not what the task needs"),
    ],
)
def test_a_value_that_does_not_fit_is_a_problem(values: Any, says: str) -> None:
    (document,) = Pairs().checked([Document("", None, "a:1", values=values)])
    assert document.text is None
    assert says in str(document.problem)


@pytest.mark.parametrize(
    ("known", "columns", "wanted"),
    [
        (["text", "entities"], {}, {"text": "text", "entities": "entities"}),
        (["tokens", "tags"], {}, {"tokens": "tokens", "tags": "tags"}),
        (["words", "tags"], {"tokens": "words"}, {"tokens": "words", "tags": "tags"}),
        (["text", "label"], {}, None),
        (["tokens", "tags"], {"tags": None}, None),
    ],
)
def test_a_source_has_rows_of_the_first_form_that_its_columns_make(
    known: list[str], columns: dict[str, str | None], wanted: dict[str, str] | None
) -> None:
    source = Source(path="a.jsonl", columns=columns).of_examples(known, Names().forms)
    assert (source and source.wanted) == wanted
