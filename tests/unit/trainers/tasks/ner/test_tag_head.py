"""No sequence of tags comes out that cannot be, and the best of those that can."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainers.tasks.ner.tag_head import OUTSIDE, TagHead, best_tags, decoded_spans
from trainers.tasks.ner.windows import NOWHERE, Span, Window
from trainers.tasks.task import IGNORED

LABELS = ["person", "place"]
TAGS = 1 + 2 * len(LABELS)
HEAD = TagHead(LABELS)
SCORES = arrays.arrays(
    np.float64, st.tuples(st.integers(0, 5), st.just(TAGS)), elements=st.integers(-20, 0)
)


def is_possible(tags: Any) -> bool:
    for before, tag in itertools.pairwise([OUTSIDE, *tags]):
        name = HEAD.outputs[tag]
        if name.startswith("I-") and HEAD.outputs[before] not in (f"B-{name[2:]}", name):
            return False
    return True


@given(SCORES)
def test_the_best_of_the_possible_sequences(scores: Any) -> None:
    found = best_tags(scores)
    assert len(found) == len(scores)
    assert is_possible(found)

    def total(tags: Any) -> float:
        return sum(scores[place, tag] for place, tag in enumerate(tags))

    every = itertools.product(range(TAGS), repeat=len(scores))
    assert total(found) == max(total(tags) for tags in every if is_possible(tags))


def test_a_single_doubt_changes_the_neighbour() -> None:
    """By token alone, I-place would follow B-person."""
    scores = np.log([[0.05, 0.5, 0.0001, 0.44, 0.0001], [0.02, 0.01, 0.1, 0.01, 0.86]])
    assert [HEAD.outputs[tag] for tag in best_tags(scores)] == ["B-place", "I-place"]


def windows_of(tokens: int, length: int = 6, shared: int = 2) -> list[Window]:
    """Windows without special tokens but one at each end, and a place that is NOWHERE in each."""
    begins = [0, *range(length - shared, max(tokens - shared, 1), length - shared)]
    sums = [at + length - 1 + after for at, after in itertools.pairwise(begins)]
    bounds = itertools.pairwise([0, *sums, 2 * tokens])
    return [
        Window([], [NOWHERE, *range(at, min(at + length, tokens)), NOWHERE], low, high)
        for at, (low, high) in zip(begins, bounds, strict=True)
    ]


class Read:
    """What `labelled` needs of a text."""

    def __init__(self, tokens: int):
        self.windows, self.offsets = windows_of(tokens), [(0, 1)] * tokens


@given(st.data())
def test_spans_to_tags_and_back_is_the_identity(data: Any) -> None:
    tokens = data.draw(st.integers(1, 30))
    cuts = sorted(data.draw(st.sets(st.integers(0, tokens), max_size=8)))
    kinds = st.integers(-1, len(LABELS) - 1)
    spans = [
        Span(start, end - 1, kind)
        for start, end in itertools.pairwise(cuts)
        if (kind := data.draw(kinds)) >= 0
    ]
    read: Any = Read(tokens)
    labels = HEAD.labelled(read, spans)
    learned = sum(tag != IGNORED for of_window in labels for tag in of_window)
    assert learned == tokens, "each once"
    logits = [torch.full((len(row), TAGS), -9.0) for row in labels]
    for row, scores in zip(labels, logits, strict=True):
        for place, tag in enumerate(row):
            scores[place, tag if tag != IGNORED else 2] = 9.0  # elsewhere nonsense
    padded = [torch.cat([one, torch.rand(3, TAGS)]) for one in logits]
    assert [one[:3] for one in HEAD.decode(padded, read.windows).spans] == spans
    flat = [tag for row in labels for tag in row if tag != IGNORED]
    assert decoded_spans(flat) == spans


def test_the_outermost_is_learned() -> None:
    read: Any = Read(12)
    nested = [Span(0, 3, 0), Span(1, 1, 1), Span(2, 3, 0), Span(3, 5, 1), Span(6, 8, 0)]
    assert sorted(HEAD.learnable(read, nested)) == [Span(0, 3, 0), Span(6, 8, 0)]
    both = [Span(0, 3, 0), Span(0, 3, 1)]
    assert HEAD.learnable(read, both) == [Span(0, 3, 0)]


def test_a_score_is_that_of_the_least_certain_token() -> None:
    chances = torch.tensor([[0.1, 0.8, 0.0, 0.1, 0.0], [0.2, 0.0, 0.6, 0.1, 0.1]]) + 1e-9
    (span,), _ = HEAD.decode([chances.log()], [Window([], [0, 1], 0, 4)])
    assert (span[:3], round(span.score, 3)) == ((0, 1, 0), 0.6)
    nothing = HEAD.decode([torch.zeros(2, TAGS)], [Window([], [NOWHERE, NOWHERE], 0, 0)])
    assert nothing == ([], None)


@pytest.mark.parametrize("first", [[0.1, 0.8, 0.0, 0.1, 0.0], [0.9, 0.1, 0.0, 0.0, 0.0]])
def test_a_text_is_as_certain_as_its_least_certain_tag(first: list[float]) -> None:
    """With an entity and without one: what was nearly one makes it doubtful."""
    chances = torch.tensor([first, [0.55, 0.45, 0.0, 0.0, 0.0]]) + 1e-9
    spans, certainty = HEAD.decode([chances.log()], [Window([], [0, 1], 0, 4)])
    assert len(spans) == (first[1] > first[0])
    assert certainty == pytest.approx(0.55, abs=1e-6)
