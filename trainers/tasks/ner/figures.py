"""Figures of named entities, from records: `gold` and `prediction` are lists of entities. Pure.

A prediction is right if start, end and label are those of a gold entity (strict, as CoNLL-2003 and
SemEval-2013 have it). Micro figures are over all entities; macro-F1 is the mean over labels that
are gold or predicted.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Records = Sequence[Mapping[str, Any]]
Entity = tuple[int, int, str]


def figures(records: Records) -> dict[str, Any]:
    counts: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("hit", "given", "gold")
    }
    for record in records:
        gold, given = keys(record["gold"]), keys(record["prediction"])
        for name, entities in (("hit", gold & given), ("given", given), ("gold", gold)):
            counts[name].update(label for _, _, label in entities)
    labels = sorted({*counts["given"], *counts["gold"]})
    columns = [[counts[name][label] for label in labels] for name in ("hit", "given", "gold")]
    return {
        **summary(*columns),
        "per_label": {
            label: {**_figures(*of_label), "entities": of_label[-1], "predicted": of_label[1]}
            for label, *of_label in zip(labels, *columns, strict=True)
        },
        "entities": sum(columns[-1]),
        "documents": len(records),
    }


def keys(entities: Iterable[Mapping[str, Any]]) -> set[Entity]:
    return {(one["start"], one["end"], one["label"]) for one in entities}


def summary(hit: Sequence[float], given: Sequence[float], gold: Sequence[float]) -> dict[str, Any]:
    """From how many entities of each label are predicted rightly, predicted, and gold."""
    micro = _figures(sum(hit), sum(given), sum(gold))
    known = [counts for counts in zip(hit, given, gold, strict=True) if counts[1] + counts[2]]
    f1 = [_figures(*counts)["f1"] for counts in known]
    return {
        **{f"span_{name}": value for name, value in micro.items()},
        "macro_f1": sum(f1) / len(f1) if f1 else 0.0,
    }


def _figures(hit: float, given: float, gold: float) -> dict[str, float]:
    """0 where there is nothing."""
    return {
        "precision": hit / max(given, 1),
        "recall": hit / max(gold, 1),
        "f1": 2 * hit / max(given + gold, 1),
    }
