"""What becomes of what is too long: cut or dropped, never silently, and no target lost unseen."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.tasks.conversations.overlong import (
    CUT,
    DROPPED,
    NOTHING_LEFT,
    SPLIT,
    Fitted,
    fitted,
)
from trainers.tasks.conversations.renderer import Rendered
from trainers.tasks.rendered import Overlong


def rendered(prompt: int, answer: int) -> Rendered:
    """Ids from 0, of which the last ones are learned."""
    return Rendered([*range(prompt + answer)], [False] * prompt + [True] * answer)


@pytest.mark.parametrize("overlong", get_args(Overlong))
def test_what_fits_stays_as_it_is(overlong: Overlong) -> None:
    assert fitted(rendered(3, 5), 8, overlong) == Fitted([rendered(3, 5)])


def test_what_is_cut_is_cut_and_counted() -> None:
    """F9, axolotl#3401: 20 tokens were kept, or dropped, in place of 8."""
    assert fitted(rendered(3, 17), 8, "keep_start") == Fitted([rendered(3, 5)], CUT)
    kept = Rendered([*range(12, 20)], [False] + [True] * 7)
    assert fitted(rendered(3, 17), 8, "keep_end") == Fitted([kept], CUT)
    assert fitted(rendered(3, 17), 8, "drop") == Fitted([], DROPPED)


@pytest.mark.parametrize("overlong", ["keep_start", "split"])
def test_a_row_whose_answer_is_cut_off_is_dropped(overlong: Overlong) -> None:
    """F3, trl#6320: rows without a target gave a loss of 0 or NaN."""
    made = Rendered([*range(6)], [False, False, False, False, True, False])
    fits = fitted(made, 3, overlong)
    if overlong == "keep_start":
        assert fits == Fitted([], NOTHING_LEFT)
    else:
        assert fits == Fitted([Rendered([2, 3, 4], [False, False, True])], SPLIT)


@given(
    st.lists(st.booleans(), min_size=2, max_size=40), st.integers(2, 12), st.sampled_from(["split"])
)
def test_pieces_learn_every_target_once(
    learned: list[bool], max_length: int, overlong: Overlong
) -> None:
    learned[0] = False  # nothing stands before it
    made = Rendered([*range(len(learned))], learned)
    pieces = fitted(made, max_length, overlong).sequences
    targets = [
        id_
        for piece in pieces
        for id_, is_learned in zip(piece.input_ids, piece.learned, strict=True)
        if is_learned
    ]
    assert targets == [id_ for id_ in made.input_ids if learned[id_]]
    if len(learned) > max_length:
        assert all(len(piece.input_ids) <= max_length for piece in pieces)
        assert all(any(piece.learned) and not piece.learned[0] for piece in pieces)


@given(
    st.lists(st.booleans(), min_size=2, max_size=40),
    st.integers(2, 12),
    st.sampled_from(get_args(Overlong)),
)
def test_no_sequence_is_too_long_or_without_a_target(
    learned: list[bool], max_length: int, overlong: Overlong
) -> None:
    made = Rendered([*range(len(learned))], [False, *learned[1:]])
    fits = fitted(made, max_length, overlong)
    assert (fits.counted is None) == (len(learned) <= max_length)
    if fits.counted:
        assert all(len(one.input_ids) <= max_length and any(one.learned) for one in fits.sequences)
