"""What the values of a label column are as labels. Pure."""

import datetime
import decimal
import numbers
import re
import uuid
from collections.abc import Mapping
from typing import Any

from cluster.section import nearest

WHOLE_WITH_POINT = re.compile(r"([+-]?\d+)\.0*")
OTHERS = (datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
"""Besides text and numbers. A datetime is a date too."""


def label_of(value: Any) -> str | None:
    """The label that a value is, or None for what is none, such as a list."""
    if isinstance(value, (str, int)):  # or a truth value
        return str(value)
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return _shortest(f"{value:f}")
    if isinstance(value, numbers.Number):
        # Whole numbers are floats where other rows have none, as pandas writes them.
        return _shortest(str(value))
    return str(value) if isinstance(value, OTHERS) else None


def _shortest(number: str) -> str:
    """Without a fraction that is zero, and without zeros at the end of another."""
    whole = WHOLE_WITH_POINT.fullmatch(number)
    if whole:
        return whole[1]
    return number.rstrip("0") if re.fullmatch(r"[+-]?\d+\.\d+", number) else number


def key_in(label_map: Mapping[str, Any], label: str) -> str | None:
    """The key that stands for a label: itself, or the same number with a point or without, since
    files without types hold `1.0` where others hold 1."""
    if label in label_map:
        return label
    shortest = _shortest(label)
    if shortest in label_map:
        return shortest
    return next((key for key in label_map if _shortest(key) == shortest), None)


def not_in_map(label: str, label_map: Mapping[str, Any], key: str) -> str:
    """What to tell of a label that a source's map has not."""
    hint = nearest(label, label_map) or f"; known: {', '.join(label_map)}"
    return f"label {label!r} is not in {key}.label_map{hint}"
