"""The first request is about a row that the model was evaluated on."""

from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.rollout.first_request import MAX_CHARACTERS, MAX_TOKENS, first_request
from tests.fakes import published
from trainers.corpora.examples.task_rows import Role
from trainers.corpora.tokens.pack import write_arrow
from trainers.tasks.classify.spec import Classify
from trainers.tasks.registry import TASKS


def promoted(folder: Path, rows: list[dict[str, Any]]) -> Artifact:
    storage = Storage.at(str(folder))
    examples = published(storage, "examples/demo-examples-00")
    if rows:
        write_arrow(pa.Table.from_pylist(rows), examples.path / "test.arrow")
    model = published(storage, "model/demo-finetune-00", parents={"examples": examples.id})
    return published(storage, "promotion/demo-promote-00", parents={"finetune": model.id})


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"text": "短", "label": "a"}, {"text": "长" * 99, "label": "b"}], "短"),
        ([{"text": "长" * 99, "label": ["a"]}], "长" * MAX_CHARACTERS),
        ([], "很好，非常满意！"),
    ],
)
def test_the_beginning_of_a_row_is_asked_first(
    tmp_path: Path, rows: list[dict[str, Any]], text: str
) -> None:
    assert first_request(promoted(tmp_path, rows), Classify).body == {"texts": [text]}


class Titled(Classify):
    """Rows are texts, or titles: what a row is not is null."""

    roles: ClassVar[Any] = {**Classify.roles, "title": Role("text", "a title")}
    row_forms: ClassVar[Any] = (("text", "label"), ("title", "label"))


def test_a_text_of_another_form_of_rows_is_passed_over(tmp_path: Path) -> None:
    promotion = promoted(tmp_path, [{"text": "短", "title": None, "label": "a"}])
    assert first_request(promotion, Titled).body == {"texts": ["短"]}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_sample_of_each_task_is_a_request_to_it(task: Any) -> None:
    from cluster.lazy_import import lazy_import
    from serving.encoders.api import request_type

    request_type(lazy_import(task.predictor), 1).model_validate(task.request([task.sample]))


@pytest.mark.parametrize(
    ("task", "rows", "asked"),
    [
        ("chat", [], {"messages": [{"role": "user", "content": "What is the capital of France?"}]}),
        (
            "chat",
            [{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}],
            {"messages": [{"role": "user", "content": "y"}]},
        ),
        ("generate", [{"prompt": "长" * 99}], {"prompt": "长" * MAX_CHARACTERS}),
        (
            "prefer",
            [],
            {"messages": [{"role": "user", "content": "What is the capital of France?"}]},
        ),
    ],
)
def test_a_model_that_writes_is_asked_as_openai_has_it(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    first = first_request(promoted(tmp_path, rows), TASKS[task])
    always = {"model": "demo", "max_tokens": MAX_TOKENS, "temperature": 0}
    assert first.body == {**always, **asked}
    route = "/v1/completions" if task == "generate" else "/v1/chat/completions"
    assert first.route == route
