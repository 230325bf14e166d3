"""Against the papers' formulas, written plainly."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainers.tasks.ner.test_tag_head import Read
from trainers.tasks.ner.span_head import SIZE, SpanHead, span_scores, turned
from trainers.tasks.ner.windows import NOWHERE, ScoredSpan, Span, Window

LABELS = ["person", "place"]
HEAD = SpanHead(LABELS)


def outputs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        *shape, 2 * SIZE + 2 * len(LABELS), generator=torch.Generator().manual_seed(seed)
    )


def test_outputs_are_a_query_a_key_and_the_edges_of_each_label() -> None:
    names = HEAD.outputs
    assert len({*names}) == len(names) == 2 * SIZE + 4
    assert names[-4:] == ["begin-person", "begin-place", "end-person", "end-place"]


def test_scores_are_those_of_the_paper() -> None:
    one = outputs(7)
    query, key, begin, end = one.split([SIZE, SIZE, 2, 2], -1)
    found = span_scores(one, torch.arange(7))
    assert found.shape == (2, 7, 7)
    for label, first, last in ((0, 1, 4), (1, 0, 0), (1, 2, 6)):
        score = 0.0
        for pair in range(SIZE // 2):
            turn = (last - first) * 10_000 ** (-2 * pair / SIZE)
            left, right = (complex(*vectors[at, 2 * pair : 2 * pair + 2])
                           for vectors, at in ((query, first), (key, last)))  # fmt: skip
            score += (left.conjugate() * right * complex(math.cos(turn), math.sin(turn))).real
        expected = score / math.sqrt(SIZE) + begin[first, label] + end[last, label]
        assert float(found[label, first, last]) == pytest.approx(float(expected), abs=1e-4)


@given(st.integers(0, 500))
def test_only_the_distance_matters(shift: int) -> None:
    one, steps = outputs(6), torch.arange(6)
    moved = span_scores(one, steps + shift)
    assert torch.allclose(moved, span_scores(one, steps), atol=1e-3)
    assert torch.allclose(turned(one[:, :SIZE], steps).norm(dim=-1), one[:, :SIZE].norm(dim=-1))


def batch_of(tokens: int, spans: list[Span]) -> tuple[Any, dict[str, torch.Tensor]]:
    read: Any = Read(tokens)
    length = max(len(one.places) for one in read.windows) + 2
    places = [[*one.places, *[NOWHERE] * (length - len(one.places))] for one in read.windows]
    return read, {
        "places": torch.tensor(places),
        "bounds": torch.tensor([(one.low, one.high) for one in read.windows]),
        **HEAD.collate(HEAD.labelled(read, spans)),
    }


def test_the_loss_is_the_softmax_of_several_labels() -> None:
    spans = [Span(0, 2, 0), Span(1, 2, 1), Span(1, 1, 1), Span(9, 11, 0)]
    read, batch = batch_of(12, spans)
    logits = outputs(*batch["places"].shape)
    expected, pairs = 0.0, 0
    for window, one in zip(read.windows, logits, strict=True):
        scores = span_scores(one, torch.arange(len(one)))
        for label in range(2):
            entities, others = 1.0, 1.0
            for i, first in enumerate(window.places):
                for j, last in enumerate(window.places):
                    if NOWHERE in (first, last) or first > last:
                        continue
                    if not window.low <= first + last < window.high:
                        continue
                    pairs += 1
                    if Span(first, last, label) in spans:
                        entities += math.exp(-scores[label, i, j])
                    else:
                        others += math.exp(scores[label, i, j])
            expected += math.log(entities) + math.log(others)
    assert pairs < 2 * 12 * 13 / 2, "some are too long for a window"
    assert float(HEAD.loss(logits, batch)) == pytest.approx(expected, rel=1e-4)
    assert HEAD.targets(batch) == len(read.windows) * 2
    logits.requires_grad_()
    HEAD.loss(logits, batch).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_without_entities_and_without_tokens_the_loss_is_finite() -> None:
    _, batch = batch_of(3, [])
    assert float(HEAD.loss(outputs(*batch["places"].shape), batch)) > 0
    batch["places"][:] = NOWHERE
    assert float(HEAD.loss(outputs(*batch["places"].shape), batch)) == 0


def test_nested_spans_are_found_each_in_its_window() -> None:
    """Edges alone decide: a span is an entity where both are over 0."""
    spans = [Span(0, 2, 0), Span(1, 2, 0), Span(1, 2, 1), Span(4, 7, 1), Span(11, 11, 0)]
    read: Any = Read(12)
    edges = {0: ({0, 1, 11}, {2, 11}), 1: ({1, 4}, {2, 7})}
    logits = []
    for window in read.windows:
        one = torch.zeros(len(window.places) + 2, 2 * SIZE + 4)
        for at, place in enumerate(window.places):
            for label, (begins, ends) in edges.items():
                one[at, 2 * SIZE + label] = 2.0 if place in begins else -9.0
                one[at, 2 * SIZE + 2 + label] = 1.0 if place in ends else -9.0
        logits.append(one)
    found, certainty = HEAD.decode(logits, read.windows)
    assert [Span(*one[:3]) for one in found] == sorted(spans)
    assert {round(one.score, 4) for one in found} == {round(1 / (1 + math.exp(-3)), 4)}
    assert isinstance(found[0], ScoredSpan)
    assert certainty == pytest.approx(1 / (1 + math.exp(-3)))


def test_a_text_is_as_certain_as_the_span_nearest_to_the_border() -> None:
    """Of two windows; a span that is read in the other one does not count."""
    read: Any = Read(12)
    logits = [outputs(len(window.places), seed=at) for at, window in enumerate(read.windows)]
    logits = [one - torch.tensor([0.0] * 2 * SIZE + [9.0] * 4) for one in logits]
    scores = []
    for window, one in zip(read.windows, logits, strict=True):
        of_all = span_scores(one, torch.arange(len(one)))
        for (i, first), (j, last) in itertools.product(enumerate(window.places), repeat=2):
            is_read = NOWHERE not in (first, last) and first <= last
            if is_read and window.low <= first + last < window.high:
                scores += of_all[:, i, j].tolist()
    assert max(scores) < 0
    spans, certainty = HEAD.decode(logits, read.windows)
    assert spans == []
    assert certainty == pytest.approx(1 - 1 / (1 + math.exp(-max(scores))), rel=1e-4)


def test_a_span_that_no_window_holds_is_not_learned() -> None:
    read: Any = Read(12)
    assert [len(one.places) for one in read.windows] == [8, 8, 6]
    long, fits = Span(2, 7, 0), Span(0, 5, 0)
    assert HEAD.learnable(read, [long, fits]) == [fits]
    nothing = HEAD.decode([torch.zeros(2, 2 * SIZE + 4)], [Window([], [NOWHERE] * 2, 0, 0)])
    assert nothing == ([], None)
