"""Two sequences of token ids, cut alike."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.tasks.conversations.messages import message
from trainers.tasks.conversations.renderer import Rendered, Renderer
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.prefer.pairs import Pair, fitted, render_pair, sequence_batch, sides
from trainers.tasks.task import IGNORED

ASKED = [message("user", "今天天气很好，我们去公园散步。")]
EARLIER = [*ASKED, message("assistant", "Hello world."), message("user", "And the fox?")]
PROMPTS = {
    "one": ASKED,
    "several": EARLIER,
    "system": [message("system", "Be brief."), *ASKED],
}
ANSWERS = {
    "plain": ("This is a test.", "The dog."),
    "thoughts": ("<think>\nHm.\n</think>\nYes.", "<think>\nHm.\n</think>\nNo."),
}


@pytest.fixture(scope="module")
def renderer(chat_tokenizer: Any) -> Renderer:
    return Renderer(chat_tokenizer)


def row_of(prompt: str, answers: str) -> dict[str, Any]:
    asked = [one | {"train": False} for one in PROMPTS[prompt]]
    chosen, rejected = ([*asked, message("assistant", text)] for text in ANSWERS[answers])
    return {"chosen": chosen, "rejected": rejected, "tools": ""}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("answers", ANSWERS)
def test_prompt_and_answer_are_the_ids_of_the_whole(
    renderer: Renderer, prompt: str, answers: str
) -> None:
    """trl#6433: and what both answers begin with is learned of both."""
    row = row_of(prompt, answers)
    pair = render_pair(renderer, row, 1000, "drop")
    asked = renderer.prompt(PROMPTS[prompt])
    for side, rendered in zip(("chosen", "rejected"), pair[:2], strict=True):
        assert rendered.input_ids == renderer.render(row[side]).input_ids
        assert rendered.input_ids[: len(asked)] == asked
        assert rendered.learned == [n >= len(asked) for n in range(len(rendered.input_ids))]


def rendered(prompt: int, answer: int, first: int) -> Rendered:
    ids = [*range(prompt), *range(first, first + answer)]
    return Rendered(ids, [place >= prompt for place in range(len(ids))])


PAIR = Pair(rendered(4, 6, 100), rendered(4, 2, 200))


def test_what_fits_stays_as_it_is() -> None:
    assert fitted(PAIR, 10, "drop") == PAIR
    assert not fitted(PAIR, 10, "keep_end").is_cut


def test_what_is_too_long_is_dropped_or_cut() -> None:
    with pytest.raises(NotRendered, match="longer than max_length"):
        fitted(PAIR, 9, "drop")
    start = fitted(PAIR, 7, "keep_start")
    assert start.chosen.input_ids == [0, 1, 2, 3, 100, 101, 102]
    assert start.rejected == PAIR.rejected
    assert start.is_cut


def test_the_ends_that_are_kept_have_the_same_prompt() -> None:
    end = fitted(PAIR, 8, "keep_end")
    assert end.chosen.input_ids == [2, 3, *range(100, 106)]
    assert end.rejected.input_ids == [2, 3, 200, 201]
    assert sum(end.rejected.learned) == 2


@pytest.mark.parametrize(("most", "how"), [(4, "keep_start"), (2, "keep_end")])
def test_a_pair_with_an_answer_that_is_gone_is_dropped(most: int, how: Any) -> None:
    with pytest.raises(NotRendered, match="no answer left"):
        fitted(PAIR, most, how)


def test_answers_that_are_the_same_tokens_teach_nothing() -> None:
    with pytest.raises(NotRendered, match="the same tokens"):
        fitted(Pair(PAIR.chosen, PAIR.chosen), 100, "drop")


def test_a_row_has_both_sides() -> None:
    chosen, rejected = sides(PAIR.columns())
    assert chosen == {"input_ids": PAIR.chosen.input_ids, "learned": PAIR.chosen.learned}
    assert rejected == {"input_ids": PAIR.rejected.input_ids, "learned": PAIR.rejected.learned}


@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=9),
    is_packed=st.booleans(),
)
def test_every_learned_token_belongs_to_its_sequence(lengths: list[int], is_packed: bool) -> None:
    sequences = [
        {"input_ids": [100 * number + place for place in range(length)], "learned": [True] * length}
        for number, length in enumerate(lengths)
    ]
    batch = sequence_batch(sequences, is_packed, pad_id=0)
    is_learned = batch["labels"] != IGNORED
    owners = batch["labels"][is_learned] // 100
    assert torch.equal(owners, batch["sequences"][is_learned])
    assert batch["tokens"].tolist() == [length - 1 for length in lengths]
