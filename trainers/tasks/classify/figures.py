"""Figures of a classifier, from its records: `gold`, `prediction`, `score`. Pure.

F1 and the confusion matrix are scikit-learn's; labels that are neither gold nor predicted are left
out, as by its default. Expected calibration error is that of Guo et al. (2017): the gap between
confidence and accuracy, over 15 equal bins of confidence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
Records = Sequence[Mapping[str, Any]]


def figures(records: Records) -> dict[str, Any]:
    """Of records whose labels are texts, or lists of texts where a text has several. Then accuracy
    is the share of texts that have all their labels right.

    In the confusion matrix, rows are true labels and columns predicted ones, in the order of
    `per_label`.
    """
    has_several = any(isinstance(record["gold"], list) for record in records)
    labels_of = {
        name: [record[name] if has_several else [record[name]] for record in records]
        for name in ("gold", "prediction")
    }
    labels = sorted({label for rows in labels_of.values() for row in rows for label in row})
    gold, given = (_one_hot(rows, labels) for rows in labels_of.values())
    hit = (gold & given).sum(0)
    correct = (gold == given).all(axis=1)
    f1 = _ratio(2 * hit, gold.sum(0) + given.sum(0))
    columns = (_ratio(hit, given.sum(0)), _ratio(hit, gold.sum(0)), f1, gold.sum(0))
    names = ("precision", "recall", "f1", "documents")
    computed = {
        "accuracy": float(correct.mean()),
        "macro_f1": float(f1.mean()) if labels else 0.0,
        "micro_f1": float(_ratio(2 * hit.sum(), gold.sum() + given.sum())),
        "per_label": {
            label: dict(zip(names, values, strict=True))
            for label, *values in zip(labels, *(column.tolist() for column in columns), strict=True)
        },
        "documents": len(records),
    }
    if has_several:
        return computed
    scores = np.array([record["score"] for record in records])
    return {
        **computed,
        "calibration_error": calibration_error(scores, correct),
        "confusion": (gold.T.astype(np.int64) @ given.astype(np.int64)).tolist(),
    }


def _one_hot(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(rows, labels)"""
    numbers = {label: number for number, label in enumerate(labels)}
    hot = np.zeros((len(rows), len(labels)), bool)
    for row, its_labels in enumerate(rows):
        hot[row, [numbers[label] for label in its_labels]] = True
    return hot


def _ratio(part: Any, whole: Any) -> Any:
    """0 where there is nothing."""
    return part / np.maximum(whole, 1)


def calibration_error(confidence: Any, correct: Any) -> float:
    """`confidence` (documents,) of the predicted label, and whether it was `correct`."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return float(error)
