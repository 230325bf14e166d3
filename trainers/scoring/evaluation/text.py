"""Figures as people read them, in a terminal and on a page. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.tasks.spec import Metric

INTERVALS, BY_GROUP = "intervals", "intervals_by_group"
"""Of figures: the intervals of their metrics over records, and over groups of these."""


def shown_intervals(computed: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    """Those over groups, where there are some."""
    found: Mapping[str, Sequence[float]] = computed.get(BY_GROUP) or computed.get(INTERVALS, {})
    return found


def with_interval(computed: Mapping[str, Any], name: str) -> str:
    """A figure such as `0.8500 [0.8210, 0.8790]`."""
    return number(computed[name], shown_intervals(computed).get(name))


def number(value: float, interval: Sequence[float] | None, sign: str = "") -> str:
    if interval is None:
        return f"{value:{sign}.4f}"
    low, high = interval
    return f"{value:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def p_text(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def difference_rows(metrics: Mapping[str, Metric], test: Mapping[str, Any]) -> list[list[str]]:
    """Of a paired test: each metric, its difference with the interval, its p-value; and McNemar's
    test last."""
    rows = [
        [metrics[name].title, number(of["difference"], of["interval"], "+"), p_text(of["p"])]
        for name, of in test["metrics"].items()
    ]
    only = f"{test['only_first_right']:,} to {test['only_second_right']:,} rows"
    return [*rows, ["only one is right (McNemar)", only, p_text(test["p_mcnemar"])]]
