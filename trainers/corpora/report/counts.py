"""Counts of documents by source, reason and label: summed, ordered, as bars. Pure."""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.corpora.report import plots
from trainers.corpora.report.formatting import number, one_line, share
from trainers.corpora.report.plots import Bar

Figures = Mapping[str, Any]
"""One source's entry in `report.json`."""

BARS = 15
"""Things in one plot; of more, the largest, and the rest as one."""
SUMMED = ("read", "kept", "characters", "tokens", "train_tokens")


def outcome(name: str, figures: Figures) -> str:
    """The plot of what was kept, and of what was dropped by reason."""
    read = figures["read"]
    kept = [bar_of("kept", figures["kept"], read, "kept")]
    dropped = largest(figures["dropped"], BARS, "reasons")
    return plots.bars(name, [*kept, *bars_of(dropped, read, "dropped")])


def bars_of(counts: Mapping[str, int], whole: int, colour: str) -> list[Bar]:
    return [bar_of(label, count, whole, colour) for label, count in counts.items()]


def bar_of(label: str, count: int, whole: int, colour: str) -> Bar:
    return Bar(one_line(label), count, f"{number(count)} ({share(count, whole)})", colour)


def summed(sources: Iterable[Figures]) -> dict[str, Any]:
    """The figures of several sources taken together, as far as they add up."""
    total: dict[str, Any] = dict.fromkeys(SUMMED, 0)
    counters = {key: collections.Counter[str]() for key in ("dropped", "masked", "lengths")}
    for figures in sources:
        for key in SUMMED:
            total[key] += figures[key]
        for key, counter in counters.items():
            counter.update(figures[key])
    return {**total, **counters}


def largest_sources(sources: Mapping[str, Figures], by: str, most: int) -> dict[str, Figures]:
    """All sources in the order of the recipe; of too many the largest, and the rest as one."""
    if len(sources) <= most:
        return dict(sources)
    ranked = sorted(sources, key=lambda name: -sources[name][by])
    large, rest = ranked[: most - 1], ranked[most - 1 :]
    others = summed(sources[name] for name in rest)
    return {**{name: sources[name] for name in large}, f"{len(rest):,} other sources": others}


def largest(counts: Mapping[str, int], most: int, of_what: str) -> dict[str, int]:
    """At most so many counts, the largest first; the smaller ones as one."""
    ranked = by_count(counts)
    if len(ranked) <= most:
        return ranked
    large = dict(list(ranked.items())[: most - 1])
    others = f"{len(ranked) - len(large):,} other {of_what}"
    return {**large, others: sum(counts.values()) - sum(large.values())}


def by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
