"""What a task counts of records, so that figures of any choice of them are sums: of all, of a
slice, and of the thousands of resamples of a bootstrap."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Answers:
    """All that a model said with a probability: of each record one answer, or of each entity."""

    confidence: Values
    """(answers,): how probable the model says it is that the answer is right."""
    correct: npt.NDArray[np.bool_]
    """(answers,): whether it is."""
    noun: str = "rows"
    """What people call what there is an answer of each."""


@dataclasses.dataclass(frozen=True)
class Tally:
    """Of records in their order. Accuracy, F1 of any kind and calibration error are functions of
    sums over records; a task says what is summed, and which functions."""

    counts: Any
    """(records, counts), an array of numpy or a sparse one of scipy."""
    metrics: Callable[[Any], dict[str, Any]]
    """From sums (..., counts) to every metric that evaluation reports, (...)."""
    severity: Values
    """(records,): how wrong each is, and 0 where all of it is right: as a rule how many mistakes it
    has, and a part of 1 by how sure the model was of them. The worst are shown first."""
    answers: Answers | None = None
    """None where the model says no probability."""

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(records,): whether all of a record's prediction is right."""
        return self.severity == 0

    def figures(self) -> dict[str, float]:
        """The metrics of all records."""
        return {name: float(value) for name, value in self.metrics(self.counts.sum(0)).items()}

    def of(self, records: npt.NDArray[np.int64]) -> "Tally":
        """The tally of some of the records, by their places, without their answers."""
        return Tally(self.counts[records], self.metrics, self.severity[records])


def scores_of(records: Sequence[Mapping[str, Any]]) -> Values | None:
    """Of records or entities; None where one has none, as those of a rule."""
    scores = [record.get("score") for record in records]
    return None if None in scores else np.array(scores, np.float64)
