"""Figures of parts of the records: those that have one value in a column. Pure.

Of numbers that take many values, ranges with about as many records are parts. Values with few
records are taken together, since figures of few say little.
"""

import bisect
import collections
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.corpora.reading.config import GROUP
from trainers.scoring.evaluation.bootstrap import Numbers, intervals
from trainers.scoring.evaluation.records import KNOWN, PLAIN
from trainers.tasks.tally import Tally

LEAST_RECORDS = 20
"""Of a value that is a slice of its own."""
MOST_VALUES = 12
"""Of a column that are slices of their own: those with most records."""
RANGES = 5
MISSING = "–"
NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d+)?")
"""As which a text counts as the number that it writes: what begins with a 0, such as a postal code,
is a name."""

Slices = dict[str, list[dict[str, Any]]]


def slices(records: Sequence[Mapping[str, Any]], tally: Tally, clusters: Numbers | None) -> Slices:
    """By column, each slice as `value`, `documents`, `metrics` and `intervals`; with `others`, how
    many values it folds, if it does. A column that has only one slice is left out (`unsliced`)."""
    found = {}
    for column in _columns(records):
        parts = _parts([record.get(column) for record in records])
        if len(parts) < 2:
            continue
        found[column] = [
            {
                "value": value,
                "documents": len(places),
                "metrics": (part := tally.of(places)).figures(),
                # Of a slice by group, the group itself is all that could be drawn.
                "intervals": intervals(
                    part, _clusters(clusters, places) if column != GROUP else None
                ),
                **({"others": others} if others else {}),
            }
            for value, places, others in parts
        ]
    return found


def unsliced(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Columns of several values, of which none has enough records, and how many these are."""
    found = {}
    for column in _columns(records):
        parts = _parts([record.get(column) for record in records])
        folded = parts[0][2] if parts else 0
        if len(parts) == 1 and folded > 1:
            found[column] = folded
    return found


def _clusters(clusters: Numbers | None, places: Numbers) -> Numbers | None:
    """Of some of the records, numbered anew: only clusters that they are in can be drawn."""
    if clusters is None:
        return None
    return np.unique(clusters[places], return_inverse=True)[1]


def _columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {name: None for record in records for name in record if name not in KNOWN}
    return [
        name
        for name in names
        if all(isinstance(record.get(name), (*PLAIN, type(None))) for record in records)
    ]


def _parts(values: Sequence[Any]) -> list[tuple[str, Numbers, int]]:
    """Value, places of its records, and how many values are folded into it."""
    names, ordered = _named(values)
    counts = collections.Counter(names)
    largest = [name for name, count in counts.most_common() if count >= LEAST_RECORDS]
    kept = largest if len(counts) == len(largest) <= MOST_VALUES + 1 else largest[:MOST_VALUES]
    if ordered:
        kept = [name for name in ordered if name in kept]
    where: dict[str, list[int]] = {name: [] for name in kept}
    others: list[int] = []
    for place, name in enumerate(names):
        where.get(name, others).append(place)
    found = [(name, np.array(places, np.int64), 0) for name, places in where.items()]
    if others:
        folded = len(counts) - len(kept)
        name = f"{folded:,} other values" if folded > 1 else names[others[0]]
        found.append((name, np.array(others, np.int64), folded))
    return found


def _named(values: Sequence[Any]) -> tuple[list[str], list[str]]:
    """The name of each value, and the names in order where they have one."""
    values = [None if value != value else value for value in values]  # not a number
    numbers = [None if value is None else _number(value) for value in values]
    known = sorted(number for number in numbers if number is not None)
    if not known or len(known) < sum(value is not None for value in values):
        return [MISSING if value is None else _text(value) for value in values], []
    distinct = sorted({*known})
    if len(distinct) <= MOST_VALUES:
        ends = distinct
    else:
        cuts = (known[math.ceil(len(known) * n / RANGES) - 1] for n in range(1, RANGES))
        ends = sorted({*cuts, known[-1]})
    begins = [distinct[0], *(distinct[bisect.bisect_right(distinct, end)] for end in ends[:-1])]
    ranges = [_range(low, high) for low, high in zip(begins, ends, strict=True)]
    names = [
        MISSING if number is None else ranges[bisect.bisect_left(ends, number)]
        for number in numbers
    ]
    return names, [*dict.fromkeys(ranges), MISSING]


def _number(value: Any) -> int | float | None:
    """The number that a value is, or writes, as columns of CSV have it."""
    if isinstance(value, str) and (written := NUMBER.fullmatch(value)):
        return float(value) if written[2] else int(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


def _range(low: float, high: float) -> str:
    return _text(low) if low == high else f"{_text(low)} to {_text(high)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    # A year has no comma.
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
