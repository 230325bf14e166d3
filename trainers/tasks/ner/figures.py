"""Figures of named entities, from records: `gold` and `prediction` are lists of entities. Pure.

A prediction is right if start, end and label are those of a gold entity (strict, as CoNLL-2003 and
SemEval-2013 have it). Micro figures are over all entities; macro-F1 is the mean over labels that
are gold or predicted.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from trainers.tasks.ner.mistakes import KINDS, RIGHT, pairs
from trainers.tasks.tally import Answers, Tally, scores_of

Records = Sequence[Mapping[str, Any]]
Key = tuple[int, int, str]


def figures(records: Records) -> dict[str, Any]:
    """`mistakes` are entities by kind (mistakes.py), and `mistakes_per_label` the same by their
    true label. In the confusion matrix rows are true labels and columns predicted ones, in the
    order of `per_label` and then none; boundaries do not count."""
    labels = _labels(records)
    counted = _tally(records, labels)
    columns = np.split(counted.counts.sum(0), 3)
    per_label = _figures(*columns)
    return {
        **counted.figures(),
        "per_label": {
            label: {
                **{name: float(values[place]) for name, values in per_label.items()},
                "entities": int(columns[2][place]),
                "predicted": int(columns[1][place]),
            }
            for place, label in enumerate(labels)
        },
        **_mistakes(records, labels),
        "entities": int(columns[2].sum()),
        "documents": len(records),
    }


def _mistakes(records: Records, labels: Sequence[str]) -> dict[str, Any]:
    by_label = {label: dict.fromkeys(KINDS, 0) for label in labels}
    places = {label: place for place, label in enumerate(labels)}
    confusion = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
    for record in records:
        for pair in pairs(record):
            by_label[pair.label][pair.kind] += 1
            true, predicted = (places[one["label"]] if one else len(labels) for one in pair)
            confusion[true, predicted] += 1
    return {
        "mistakes": {kind: sum(of[kind] for of in by_label.values()) for kind in KINDS},
        "mistakes_per_label": by_label,
        "confusion": confusion.tolist(),
    }


def tally(records: Records) -> Tally:
    """Of each record, by label, entities that are predicted rightly, predicted, and gold. A record
    is right if all of its entities are, and no other is predicted; else it is as wrong as it has
    mistakes, and of as many the surest entity that is wrong decides. Answers are entities: what is
    missed is none, so calibration is of what is predicted."""
    return _tally(records, _labels(records))


def _labels(records: Records) -> list[str]:
    """That are gold or predicted."""
    return sorted(
        {one["label"] for each in records for one in (*each["gold"], *each["prediction"])}
    )


def _tally(records: Records, labels: Sequence[str]) -> Tally:
    places = {label: place for place, label in enumerate(labels)}
    rows, columns, severity = [], [], []
    for number, record in enumerate(records):
        gold, predicted = keys(record["gold"]), keys(record["prediction"])
        severity.append(0.0 if gold == predicted else _severity(record))
        for kind, entities in enumerate((gold & predicted, predicted, gold)):
            columns += [kind * len(labels) + places[label] for _, _, label in entities]
            rows += [number] * len(entities)
    where = (np.array(rows, np.int64), np.array(columns, np.int64))
    shape = (len(records), 3 * len(labels))
    counts = sparse.csr_array((np.ones(len(rows)), where), shape=shape)  # equal places add up
    metrics = functools.partial(_metrics, number=len(labels))
    return Tally(counts, metrics, np.array(severity), _answers(records))


def _severity(record: Mapping[str, Any]) -> float:
    wrong = [pair for pair in pairs(record) if pair.kind != RIGHT]
    scores = (pair.predicted.get("score", 0.0) for pair in wrong if pair.predicted)
    return len(wrong) + float(max(scores, default=0.0))


def _answers(records: Records) -> Answers | None:
    predicted = [(record, one) for record in records for one in record["prediction"]]
    scores = scores_of([one for _, one in predicted])
    if scores is None or not predicted:
        return None
    true = {id(record): keys(record["gold"]) for record in records}
    correct = [keys([one]) <= true[id(record)] for record, one in predicted]
    return Answers(scores, np.array(correct), "entities")


def _metrics(sums: Any, number: int) -> dict[str, Any]:
    """`sums` (..., counts) of so many labels."""
    return summary(*np.split(sums, [number, 2 * number], axis=-1))


def keys(entities: Iterable[Mapping[str, Any]]) -> set[Key]:
    return {(one["start"], one["end"], one["label"]) for one in entities}


def summary(hit: Any, predicted: Any, gold: Any) -> dict[str, Any]:
    """From how many entities of each label (..., labels) are predicted rightly, predicted, and
    gold."""
    hit, predicted, gold = (np.asarray(counts) for counts in (hit, predicted, gold))
    micro = _figures(hit.sum(-1), predicted.sum(-1), gold.sum(-1))
    known = (predicted + gold > 0).sum(-1)
    f1 = _figures(hit, predicted, gold)["f1"]
    return {
        **{f"span_{name}": value for name, value in micro.items()},
        "macro_f1": f1.sum(-1) / np.maximum(known, 1),
    }


def _figures(hit: Any, predicted: Any, gold: Any) -> dict[str, Any]:
    """0 where there is nothing."""
    return {
        "precision": hit / np.maximum(predicted, 1),
        "recall": hit / np.maximum(gold, 1),
        "f1": 2 * hit / np.maximum(predicted + gold, 1),
    }
