"""In what words an endpoint refuses."""

from typing import Any

import pytest
from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.http.refusals import explain, refuse_cut
from trainers.tasks.encoding import Encoded


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    texts: list[str] = Field(max_length=8)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"txts": ["a"], "texts": ["a"]}, "txts: unknown key; known: texts"),
        ({}, "texts: missing"),
        ({"texts": ["a", 1]}, "texts.1: Input should be a valid string"),
        ({"texts": [1] * 7}, "texts.4: Input should be a valid string; and 2 more"),
        ({"texts": ["a"] * 9}, "9 texts in one request, at most 8"),
        (["a"], "the body is no JSON object"),
    ],
)
def test_what_was_not_asked_for_is_named(body: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Body.model_validate(body)
    problems = [{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()]
    assert explain(problems, ["texts"]).endswith(says)


def test_texts_that_must_not_be_cut_are_told_with_their_lengths() -> None:
    whole, cut, endless = Encoded([1, 2, 3], 3), Encoded([1, 2, 3], 9), Encoded([1, 2, 3], None)
    refuse_cut([whole, whole], "texts")
    with pytest.raises(HTTPException) as refused:
        refuse_cut([cut, whole, endless], "texts")
    assert refused.value.status_code == 413
    assert refused.value.detail.startswith(
        "texts.0 has 9 tokens, more than the 3 tokens that the model reads; "
        "texts.2 has more than the 3 tokens that the model reads: shorten"
    )
