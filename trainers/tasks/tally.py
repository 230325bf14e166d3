"""What a task counts of records, so that figures of any choice of them are sums: of all, of a
slice, and of the thousands of resamples of a bootstrap."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Tally:
    """Of records in their order. Accuracy, F1 of any kind and calibration error are functions of
    sums over records; a task says what is summed, and which functions."""

    counts: Any
    """(records, counts), an array of numpy or a sparse one of scipy."""
    metrics: Callable[[Any], dict[str, Any]]
    """From sums (..., counts) to every metric that evaluation reports, (...)."""
    correct: npt.NDArray[np.bool_]
    """(records,): whether all of a record's prediction is right."""
    confidence: npt.NDArray[np.float64] | None = None
    """(records,): how probable the model says that is. None where it says no such thing."""

    def figures(self) -> dict[str, float]:
        """The metrics of all records."""
        return {name: float(value) for name, value in self.metrics(self.counts.sum(0)).items()}

    def of(self, records: npt.NDArray[np.int64]) -> "Tally":
        """The tally of some of the records, by their places."""
        confidence = None if self.confidence is None else self.confidence[records]
        return Tally(self.counts[records], self.metrics, self.correct[records], confidence)


def confidence_of(records: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64] | None:
    """(records,): their scores; None where they have none, as those of a rule."""
    scores = [record.get("score") for record in records]
    return None if None in scores else np.array(scores, np.float64)
