"""Figures of a classifier, from its records: `gold`, `prediction`, `score`. Pure.

F1 and the confusion matrix are scikit-learn's; labels that are neither gold nor predicted are left
out, as by its default.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from trainers.tasks.calibration import BINS, bins, calibration_error
from trainers.tasks.tally import Answers, Tally, scores_of

Records = Sequence[Mapping[str, Any]]
Hot = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Of records, as (records, labels): whether each has the label, and is predicted to have it."""

    names: list[str]
    gold: Hot
    predicted: Hot
    has_several: bool

    @classmethod
    def of(cls, records: Records) -> Self:
        has_several = any(isinstance(record["gold"], list) for record in records)
        gold, predicted = (
            [record[name] if has_several else [record[name]] for record in records]
            for name in ("gold", "prediction")
        )
        names = sorted({label for row in (*gold, *predicted) for label in row})
        return cls(names, _one_hot(gold, names), _one_hot(predicted, names), has_several)


def figures(records: Records) -> dict[str, Any]:
    """Of records whose labels are texts, or lists of texts where a text has several. Then accuracy
    is the share of texts that have all their labels right.

    In the confusion matrix, rows are true labels and columns predicted ones, in the order of
    `per_label`.
    """
    labels = _Labels.of(records)
    gold, predicted = labels.gold, labels.predicted
    hit = (gold & predicted).sum(0)
    f1 = _ratio(2 * hit, gold.sum(0) + predicted.sum(0))
    columns = (_ratio(hit, predicted.sum(0)), _ratio(hit, gold.sum(0)), f1, gold.sum(0))
    names = ("precision", "recall", "f1", "documents")
    rows = zip(labels.names, *(column.tolist() for column in columns), strict=True)
    computed = {
        **_tally(records, labels).figures(),
        "per_label": {label: dict(zip(names, values, strict=True)) for label, *values in rows},
        "documents": len(records),
    }
    if labels.has_several:
        return computed
    return {
        **computed,
        "confusion": (gold.T.astype(np.int64) @ predicted.astype(np.int64)).tolist(),
    }


def tally(records: Records) -> Tally:
    """Of each record which labels are hit, predicted and gold, and how many are not right; with one
    label a text also how far its confidence is from whether all are, by bin."""
    return _tally(records, _Labels.of(records))


def _tally(records: Records, labels: _Labels) -> Tally:
    gold, predicted = labels.gold, labels.predicted
    correct = (gold == predicted).all(axis=1)
    columns = [
        sparse.csr_array(hot) for hot in (gold & predicted, predicted, gold, correct[:, None])
    ]
    columns.append(sparse.csr_array(np.ones((len(records), 1))))
    confidence = scores_of(records)
    if not labels.has_several:
        assert confidence is not None
        places = (np.arange(len(records)), bins(confidence))
        shape = (len(records), BINS)
        columns.append(sparse.csr_array((confidence - correct, places), shape=shape))
    counts = sparse.hstack(columns, format="csr", dtype=np.float64)
    metrics = functools.partial(_metrics, number=len(labels.names))
    mistakes = (gold != predicted).sum(1)
    sure = np.zeros(len(records)) if confidence is None else confidence
    severity = np.where(correct, 0, mistakes + sure)
    said = None if confidence is None else Answers(confidence, correct)
    return Tally(counts, metrics, severity, said)


def _metrics(sums: Any, number: int) -> dict[str, Any]:
    """`sums` (..., counts) of so many labels."""
    ends = [number, 2 * number, 3 * number, 3 * number + 1, 3 * number + 2]
    hit, predicted, gold, correct, documents, gaps = np.split(sums, ends, axis=-1)
    f1 = _ratio(2 * hit, predicted + gold)
    known = (predicted + gold > 0).sum(-1)
    metrics = {
        "accuracy": _ratio(correct[..., 0], documents[..., 0]),
        "macro_f1": _ratio(f1.sum(-1), known),
        "micro_f1": _ratio(2 * hit.sum(-1), (predicted + gold).sum(-1)),
    }
    if gaps.shape[-1]:
        metrics["calibration_error"] = calibration_error(gaps, documents[..., 0])
    return metrics


def _one_hot(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> Hot:
    """(rows, labels)"""
    numbers = {label: number for number, label in enumerate(labels)}
    hot = np.zeros((len(rows), len(labels)), bool)
    for row, its_labels in enumerate(rows):
        hot[row, [numbers[label] for label in its_labels]] = True
    return hot


def _ratio(part: Any, whole: Any) -> Any:
    """0 where there is nothing."""
    return part / np.maximum(whole, 1)
