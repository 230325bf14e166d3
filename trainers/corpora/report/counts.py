"""Counts of documents by source, reason and label: summed, ordered, as bars. Pure."""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.corpora.report.page import Bar, share

Figures = Mapping[str, Any]
"""One source's entry in `report.json`."""

BARS = 15
"""Things in one plot at most, the largest."""
SUMMED = ("read", "kept", "characters", "tokens", "train_tokens")


def outcome(figures: Figures) -> list[Bar]:
    """What was kept, and what was dropped by reason."""
    read = figures["read"]
    dropped = by_count(figures["dropped"], BARS)
    return [bar("kept", figures["kept"], read, "kept"), *bars(dropped, read, "dropped")]


def bars(counts: Mapping[str, int], whole: int, colour: str) -> list[Bar]:
    return [bar(label, count, whole, colour) for label, count in counts.items()]


def bar(label: str, count: int, whole: int, colour: str) -> Bar:
    return Bar(label, count, f"{count:,} ({share(count, whole)})", colour)


def summed(sources: Iterable[Figures]) -> dict[str, Any]:
    """The figures of several sources taken together, as far as they add up."""
    total: dict[str, Any] = dict.fromkeys(SUMMED, 0)
    counters = {key: collections.Counter[str]() for key in ("dropped", "masked")}
    for figures in sources:
        for key in SUMMED:
            total[key] += figures[key]
        for key, counter in counters.items():
            counter.update(figures[key])
    return {**total, **counters}


def by_count(counts: Mapping[str, int], most: int | None = None) -> dict[str, int]:
    """The largest first, and at most so many."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])
