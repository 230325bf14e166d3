"""Figures of preference, from records of pairs. Pure.

reward_accuracy            the share of pairs whose chosen answer has the higher reward
margin                     by how much its reward is higher, on average
kl                         how far the model is from its reference, in nats a token (losses.py);
                           where its loss has a reference
chosen_log_probability     of the answers per token, averaged over pairs: whether the model likes
rejected_log_probability   the chosen ones more, or both less
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.tasks.tally import Answers, Tally, scores_of

Records = Sequence[Mapping[str, Any]]
MEANS = ("margin", "kl", "chosen_log_probability", "rejected_log_probability")
"""What is averaged over records, where they have it."""


def figures(records: Records) -> dict[str, Any]:
    """The metrics, and of how many pairs."""
    return {**tally(records).figures(), "pairs": len(records)}


def tally(records: Records) -> Tally:
    """A pair is right where the model prefers what people chose; else it is the more wrong the
    surer the model was."""
    names = [name for name in MEANS if all(record.get(name) is not None for record in records)]
    correct = np.array([record["prediction"] == record["gold"] for record in records])
    columns = [correct, *([record[name] for record in records] for name in names)]
    counts = np.array([*columns, np.ones(len(records))], np.float64).T
    probability = scores_of(records)
    assert probability is not None

    def metrics(sums: Any) -> dict[str, Any]:
        pairs = np.maximum(sums[..., -1], 1)
        known = enumerate(("reward_accuracy", *names))
        return {name: sums[..., place] / pairs for place, name in known}

    severity = np.where(correct, 0.0, 1 + probability)
    return Tally(counts, metrics, severity, Answers(probability, correct, noun="pairs"))
