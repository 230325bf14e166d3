"""A label from the votes of labelling functions, each weighed by what it is worth (Dawid and Skene
1979). Pure.

A document has a label y that nobody sees, and function j votes v_j for it, abstaining being one of
its choices; functions err independently of each other, given the label:

    p(y, v) = p(y) * prod_j p(v_j | y)

Expectation maximization starts from the shares s_i(y) of the votes and repeats, over documents i,

    q_i(y)      proportional to  p(y) * prod_j p(v_ij | y)
    w_i(y)      =  (1 - ANCHOR) * q_i(y) + ANCHOR * s_i(y)
    p(v_j | y)  =  (SMOOTHING + sum_i w_i(y) [v_ij = v_j]) / (SMOOTHING * choices + sum_i w_i(y))
    p(y)        =  (SMOOTHING + sum_i w_i(y)) / (SMOOTHING * labels + documents)

The anchor says that functions are right more often than not. Without it they may come to tell apart
something else than the labels, such as long texts, where more rules are found, from short ones.

That a function abstains tells of the label too. It must: one that only ever votes for one label, as
a lexicon does, is never wrong about what it votes for, so a model of its votes alone (as Dawid and
Skene's of raters, or Ratner et al. 2016's with one accuracy a function) finds that all documents
have that label.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

ABSTAIN = -1
ANCHOR = 0.1
SMOOTHING = 1.0
ROUNDS = 1000
CONVERGED = 1e-6
"""The most that a probability may still change."""

Votes = npt.NDArray[np.int64]
"""(documents, functions): the number of a label, or ABSTAIN."""


@dataclasses.dataclass(frozen=True)
class LabelModel:
    balance: npt.NDArray[np.float64]
    """(labels,): p(y)"""
    choices: npt.NDArray[np.float64]
    """(functions, labels, labels + 1): p(v_j | y); the last choice is to abstain."""

    def probabilities(self, votes: Votes) -> npt.NDArray[np.float64]:
        """(documents, labels)"""
        found = np.log(self.balance) + np.zeros((len(votes), 1))
        for function, choices in enumerate(self.choices):
            found += np.log(choices[:, votes[:, function]].T)  # ABSTAIN is the last one's index
        found = np.exp(found - found.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)


def fit(votes: Votes, documents: npt.NDArray[np.int64], labels: int) -> LabelModel:
    """The model of different votes, each of so many `documents`: those without any included."""
    shares = np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1) + 0.1
    shares /= shares.sum(axis=1, keepdims=True)
    found = shares
    for _ in range(ROUNDS):
        anchored = (1 - ANCHOR) * found + ANCHOR * shares
        model = _maximized(votes, anchored * documents[:, None])
        before, found = found, model.probabilities(votes)
        if np.abs(found - before).max() < CONVERGED:
            break
    return model


def _maximized(votes: Votes, weights: npt.NDArray[np.float64]) -> LabelModel:
    """From what each row counts for each label."""
    labels = weights.shape[1]
    choices = np.full((votes.shape[1], labels, labels + 1), SMOOTHING)
    for function in range(votes.shape[1]):
        np.add.at(choices[function].T, votes[:, function], weights)
    balance = SMOOTHING + weights.sum(axis=0)
    return LabelModel(balance / balance.sum(), choices / choices.sum(axis=2, keepdims=True))
