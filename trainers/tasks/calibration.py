"""Whether a model is right as often as it says: expected calibration error (Guo et al. 2017) and
the bins that it is made of. Pure."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
"""Of equal width, of confidence."""


def bins(confidence: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(answers,): the bin of each."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def calibration_error(gaps: Any, documents: Any) -> Any:
    """`gaps` (..., BINS) are the sums of confidence minus correctness over each bin's documents.
    The error is the mean gap of a bin, weighted by its documents."""
    return np.abs(gaps).sum(-1) / np.maximum(documents, 1)


def reliability(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]
) -> list[dict[str, float]]:
    """Of each bin that has any answers, how many, their mean confidence, and the share that is
    right."""
    numbers = bins(confidence)
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        found.append(
            {
                "answers": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "correct": float(correct[inside].mean()),
            }
        )
    return found
