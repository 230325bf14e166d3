"""The label model finds the functions' habits that the votes were drawn with."""

import functools

import numpy as np
import pytest

from trainers.corpora.examples.label_model import ABSTAIN, LabelModel, Votes
from trainers.corpora.examples.label_model import fit as fit_distinct

LABELS = 2
CHOICES = np.array(
    [  # given label 0, label 1: the chance to vote 0, to vote 1, to abstain
        [[0.6, 0.0, 0.4], [0.1, 0.0, 0.9]],
        [[0.5, 0.0, 0.5], [0.2, 0.0, 0.8]],
        [[0.0, 0.05, 0.95], [0.0, 0.4, 0.6]],
        [[0.0, 0.1, 0.9], [0.0, 0.5, 0.5]],
        [[0.3, 0.2, 0.5], [0.1, 0.5, 0.4]],
    ]
)
BALANCE = np.array([0.4, 0.6])


@functools.cache
def drawn(documents: int) -> tuple[Votes, np.ndarray]:
    """Votes and the labels behind them."""
    generator = np.random.default_rng(17)
    labels = generator.choice(LABELS, documents, p=BALANCE)
    choice = [[generator.choice(3, p=function[label]) for function in CHOICES] for label in labels]
    votes = np.array(choice)
    votes[votes == LABELS] = ABSTAIN
    return votes, labels


def fit(votes: Votes, labels: int) -> LabelModel:
    distinct, documents = np.unique(votes, axis=0, return_counts=True)
    return fit_distinct(distinct, documents, labels)


def test_it_finds_what_the_votes_were_drawn_with() -> None:
    votes, _ = drawn(20_000)
    found = fit(votes, LABELS)
    np.testing.assert_allclose(found.balance, BALANCE, atol=0.05)
    np.testing.assert_allclose(found.choices, CHOICES, atol=0.05)


def test_it_is_righter_than_the_majority_and_knows_how_right() -> None:
    votes, labels = drawn(20_000)
    found = fit(votes, LABELS).probabilities(votes)
    ballots = np.stack([(votes == label).sum(axis=1) for label in range(LABELS)], axis=1)
    by_model = (found.argmax(axis=1) == labels).mean()
    by_majority = (ballots.argmax(axis=1) == labels).mean()
    assert by_model > by_majority + 0.02
    assert found.max(axis=1).mean() == pytest.approx(by_model, abs=0.02)


def test_probabilities_are_those_of_bayes() -> None:
    """By hand: 0.4 * 0.6 * 0.05 to 0.6 * 0.1 * 0.4."""
    model = LabelModel(BALANCE, CHOICES[[0, 2]] + 1e-12)
    found = model.probabilities(np.array([[0, 1], [ABSTAIN, ABSTAIN]]))
    assert found[0] == pytest.approx([1 / 3, 2 / 3])
    assert found[1] == pytest.approx([0.4 * 0.4 * 0.95 / 0.476, 0.6 * 0.9 * 0.6 / 0.476])


def test_the_order_of_the_documents_is_nothing_to_it() -> None:
    votes, _ = drawn(500)
    first, second = fit(votes, LABELS), fit(votes[::-1], LABELS)
    assert (first.choices == second.choices).all()
    assert (first.balance == second.balance).all()


def test_functions_of_one_label_each_do_not_make_everything_that_label() -> None:
    """What a model of votes alone, without the abstentions, comes to."""
    votes, labels = drawn(5_000)
    lexicons = votes[:, :4]
    found = fit(lexicons, LABELS).probabilities(lexicons).argmax(axis=1)
    assert 0.2 < found.mean() < 0.8
    assert (found == labels).mean() > 0.75
