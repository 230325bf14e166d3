"""What the values of a label column are as labels. Pure."""

import datetime
import decimal
import numbers
import re
import uuid
from collections.abc import Mapping
from typing import Any

from cluster.recipe.section import nearest

WHOLE_WITH_POINT = re.compile(r"([+-]?\d+)\.0*")
LabelMap = Mapping[str, str | None]
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


def refusal_of_labels(
    label: str | tuple[str, ...], label_map: LabelMap | None, key: str, several: bool
) -> str | None:
    """Why a row's label, or list of labels, cannot be taken, or None. `key` is the source's."""
    if isinstance(label, tuple) and not several:
        return f"the label is a list, {[*label]}; set finetune.multi_label: true"
    for one in all_of(label):
        if label_map is not None and _key_in(label_map, one) is None:
            hint = nearest(one, label_map) or f"; known: {', '.join(label_map)}"
            return f"label {one!r} is not in {key}.label_map{hint}"
    return None


def mapped(label: str | tuple[str, ...], label_map: LabelMap | None) -> tuple[str, ...] | None:
    """A row's labels by the source's map, each once; None for a row to drop."""
    labels = all_of(label)
    if label_map is None:
        return tuple(dict.fromkeys(labels))
    found = [label_map[key] for one in labels if (key := _key_in(label_map, one)) is not None]
    kept = tuple(dict.fromkeys(one for one in found if one is not None))
    return None if labels and not kept else kept


def all_of(label: str | tuple[str, ...]) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def _key_in(label_map: LabelMap, label: str) -> str | None:
    """The key that stands for a label: itself, or the same number or truth value, since files
    without types hold `1.0` or `true` where others hold 1 or True."""
    if label in label_map:
        return label
    same = _same(label)
    if same in label_map:
        return same
    return next((key for key in label_map if _same(key) == same), None)


def _same(label: str) -> str:
    """How a label is written whatever the file."""
    return label.capitalize() if label.lower() in ("true", "false") else _shortest(label)
