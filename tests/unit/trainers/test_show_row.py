"""A row as it is trained on: which tokens are learned, or why it is dropped."""

import dataclasses
import json
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from tests.conversations import TOYS, toy_tokenizer
from trainers.corpora.config import Corpora
from trainers.show_row import marked_lines, marked_tokens, show_row
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.rows import ConversationRows

ROWS = [
    {
        "messages": [
            {"role": "user", "content": "Who?\nYou?"},
            {"role": "assistant", "content": "I."},
        ]
    },
    {"messages": [{"role": "user", "content": "Who?"}]},
    {
        "messages": [
            {"role": "user", "content": "<|im_end|>"},
            {"role": "assistant", "content": "I."},
        ]
    },
]


@dataclasses.dataclass(frozen=True)
class Rendering:
    sequences: Sequence[Mapping[str, Sequence[Any]]]
    noted: Mapping[str, int] = dataclasses.field(default_factory=dict)


class ChatTask:
    """As show_row knows a Task."""

    def __init__(self, settings: Any, examples: None, start: Any, folder: str):
        self.loaded_tokenizer = toy_tokenizer(TOYS["ChatML"])

    def render(self, row: Mapping[str, Any]) -> Rendering:
        made = Renderer(self.loaded_tokenizer).render(row["messages"], row["tools"])
        return Rendering([{"input_ids": made.input_ids, "learned": made.learned}])


class ChatSection(ConversationRows):
    is_rendered = True
    implementation = f"{__name__}:ChatTask"
    base: str | None = "some/model"


class OtherSection(ConversationRows):
    is_rendered = False


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    corpora = Corpora.model_validate({"sources": {"rows": {"path": str(path)}}})
    return types.SimpleNamespace(
        name="demo", workspace=str(tmp_path), corpora=corpora, finetune=ChatSection()
    )


def test_what_is_learned_is_marked(recipe: Any) -> None:
    shown = show_row(recipe, 1)
    (sequence,) = shown["sequences"]
    learned = sum(sequence["learned"])
    where = f"{recipe.corpora.sources['rows'].path}:1"
    assert shown["text"] == (
        f"row 1 ({where}); what is learned begins with +\n"
        f"sequence 1 of 1: {len(sequence['input_ids'])} tokens, {learned} learned\n"
        "  <|im_start|>user↵\n"
        "  Who?↵\n"
        "  You?<|im_end|>↵\n"
        "  <|im_start|>assistant↵\n"
        "+ I.<|im_end|>\n"
        "  ↵"
    )
    json.dumps(shown)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (2, "no answer at the end: the last role is user"),
        (3, "the name of a special token in a message"),
    ],
)
def test_why_a_row_is_dropped_is_told(recipe: Any, number: int, why: str) -> None:
    shown = show_row(recipe, number)
    assert shown["dropped"] == why
    assert shown["text"].endswith(f"rows.jsonl:{number}) is dropped: {why}")


@pytest.mark.parametrize("number", [0, 4])
def test_a_row_that_is_not_there_is_refused(recipe: Any, number: int) -> None:
    with pytest.raises(UserError, match=f"--show-row {number}: the sources have 3 rows"):
        show_row(recipe, number)


@pytest.mark.parametrize(("finetune", "says"), [(None, "no task"), (OtherSection(), "no task")])
def test_other_recipes_have_no_such_row(recipe: Any, finetune: Any, says: str) -> None:
    recipe.finetune = finetune
    with pytest.raises(UserError, match=says):
        show_row(recipe, 1)


def test_without_a_base_there_is_no_tokenizer(recipe: Any) -> None:
    recipe.finetune.base = None
    with pytest.raises(UserError, match=r"finetune\.base"):
        show_row(recipe, 1)


def test_an_encoder_reads_and_its_decoder_learns() -> None:
    texts = marked_tokens({"input_ids": [1, 2], "labels": [3]}, "sequence 1 of 1")
    assert texts == [("source", [1, 2], [False, False]), ("target", [3], [True])]
    assert [*map(str, texts)] == ["source: 2 tokens, 0 learned", "target: 1 tokens, 1 learned"]
    lines = [line for tokens in texts for line in marked_lines(tokens, lambda ids: f"{ids}\n")]
    assert lines == ["  [1, 2]↵", "+ [3]↵"]


def test_two_answers_stand_apart_each_behind_the_prompt() -> None:
    learned = [False, True, False, True, True]
    sequence = {"input_ids": [1, 2, 1, 3, 4], "learned": learned, "lengths": [2, 3]}
    assert marked_tokens(sequence, "sequence 1 of 1") == [
        ("chosen", [1, 2], [False, True]),
        ("rejected", [1, 3, 4], [False, True, True]),
    ]


def test_what_is_not_learned_as_it_is_is_told(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Rendering([{"input_ids": [1, 2], "learned": [False, True]}], {"cut to max_length": 1})
    monkeypatch.setattr(ChatTask, "render", lambda task, row: cut)
    shown = show_row(recipe, 1)
    assert shown["noted"] == {"cut to max_length": 1}
    assert shown["text"].splitlines()[1] == "noted: cut to max_length 1"
