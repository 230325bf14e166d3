"""Whether one model is better than another on the same rows, or lucky. Pure.

McNemar's test (1947) looks at the rows that one has right and the other wrong: if both were as
good, each such row would be a coin toss. It is computed exactly, by the binomial distribution. For
every metric the difference is bootstrapped over the rows, both models on each resample.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainers.scoring.evaluation.bootstrap import Numbers, Values, interval, resampled
from trainers.scoring.evaluation.records import Record
from trainers.tasks.tally import Tally


@dataclasses.dataclass(frozen=True)
class Flips:
    """Rows that one of two models has right and the other wrong, by their places."""

    only_first: Numbers
    only_second: Numbers

    @property
    def p(self) -> float:
        return mcnemar(len(self.only_first), len(self.only_second))


def flips(first: Tally, second: Tally) -> Flips:
    return Flips(
        np.flatnonzero(first.correct & ~second.correct),
        np.flatnonzero(~first.correct & second.correct),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of so many rows that only one model, or only the other, has
    right."""
    from scipy import stats

    discordant = only_first + only_second
    if not discordant:
        return 1.0
    return min(1.0, 2 * float(stats.binom.cdf(min(only_first, only_second), discordant, 0.5)))


def differences(
    first: Tally, second: Tally, clusters: Numbers | None = None
) -> dict[str, dict[str, Any]]:
    """Of every metric that both have: of the `first`, of the `second`, their `difference` with its
    95 % `interval`, and `p`."""
    ours, theirs = first.figures(), second.figures()
    drawn = resampled([first, second], clusters)
    found = {}
    for name in ours.keys() & theirs.keys():
        difference = drawn[0][name] - drawn[1][name]
        found[name] = {
            "first": ours[name],
            "second": theirs[name],
            "difference": ours[name] - theirs[name],
            "interval": interval(difference),
            "p": p_value(difference),
        }
    return {name: found[name] for name in ours if name in found}


def p_value(differences: Values) -> float:
    """Two-sided: how often resamples lie on the other side of no difference. Never 0, since there
    are but so many."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def same_rows(
    first: Sequence[Record], second: Sequence[Record]
) -> tuple[list[Record], list[Record]]:
    """Records of the rows that both have, by their ids, in the first's order."""
    by_id = {record["id"]: record for record in second}
    ours = [record for record in first if record["id"] in by_id]
    return ours, [by_id[record["id"]] for record in ours]
