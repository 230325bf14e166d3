"""Figures of a classifier, from its records: `gold`, `prediction`, `score`. Pure.

Accuracy, F1 and confusion matrix as scikit-learn has them; expected calibration error as Guo et al.
(2017): the gap between confidence and accuracy, over 15 equal bins of confidence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BINS = 15
Records = Sequence[Mapping[str, Any]]


def figures(records: Records) -> dict[str, Any]:
    """Of records whose labels are texts, or lists of texts where a text has several.

    Labels that are neither gold nor predicted are left out, as by scikit-learn's default.
    """
    several = any(isinstance(record["gold"], list) for record in records)
    return _several(records) if several else _single(records)


def _single(records: Records) -> dict[str, Any]:
    """In the confusion matrix, rows are true labels and columns predicted ones, in the order of
    `per_label`."""
    from sklearn import metrics

    gold = [record["gold"] for record in records]
    predicted = [record["prediction"] for record in records]
    labels = sorted({*gold, *predicted})
    scores = np.array([record["score"] for record in records])
    correct = np.array([one == other for one, other in zip(gold, predicted, strict=True)])
    f1 = metrics.f1_score(gold, predicted, labels=labels, average=None, zero_division=0)
    return {
        "accuracy": float(correct.mean()),
        "macro_f1": float(np.mean(f1)),
        "micro_f1": float(correct.mean()),
        "calibration_error": calibration_error(scores, correct),
        "confusion": metrics.confusion_matrix(gold, predicted, labels=labels).tolist(),
        "per_label": _per_label(gold, predicted, labels),
        "documents": len(records),
    }


def _several(records: Records) -> dict[str, Any]:
    """Accuracy is the share of texts that have all their labels right."""
    from sklearn import metrics
    from sklearn.preprocessing import MultiLabelBinarizer

    gold = [record["gold"] for record in records]
    predicted = [record["prediction"] for record in records]
    labels = sorted({label for row in (*gold, *predicted) for label in row})
    binarizer = MultiLabelBinarizer(classes=labels)
    true, given = binarizer.fit_transform(gold), binarizer.transform(predicted)
    averages = {
        f"{name}_f1": float(metrics.f1_score(true, given, average=name, zero_division=0))
        for name in ("micro", "macro")
    }
    return {
        "accuracy": float((true == given).all(axis=1).mean()),
        **averages,
        "per_label": _per_label(true, given, labels),
        "documents": len(records),
    }


def _per_label(gold: Any, predicted: Any, labels: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of texts of each label."""
    from sklearn import metrics

    numbers = {} if isinstance(gold, np.ndarray) else {"labels": labels}
    columns = metrics.precision_recall_fscore_support(gold, predicted, zero_division=0, **numbers)
    names = ("precision", "recall", "f1", "documents")
    return {
        label: {name: float(column[place]) for name, column in zip(names, columns, strict=True)}
        for place, label in enumerate(labels)
    }


def calibration_error(confidence: Any, correct: Any) -> float:
    """`confidence` (documents,) of the predicted label, and whether it was `correct`."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return float(error)
