"""Figures of a classifier, from probabilities and labels. Pure.

Accuracy, macro-F1 and confusion matrix as scikit-learn has them; expected calibration error as Guo
et al. (2017): the gap between confidence and accuracy, over 15 equal bins of confidence.
"""

import math
import statistics
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15


def classification(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]
) -> dict[str, Any]:
    """`probabilities` is (documents, classes), `labels` (documents,).

    In the confusion matrix, rows are true labels and columns predicted ones.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(axis=1)
    classes = list(range(probabilities.shape[1]))
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "macro_f1": float(
            metrics.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        ),
        "calibration_error": calibration_error(probabilities, labels),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "documents": len(labels),
    }


def calibration_error(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]
) -> float:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return float(error)


def interval(values: list[float]) -> dict[str, float]:
    """Mean and the half-width of its 95 % confidence interval (Student's t)."""
    from scipy import stats

    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean}
    error = statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "half_width_95": error * float(stats.t.ppf(0.975, len(values) - 1))}
