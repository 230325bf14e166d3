"""Intervals by the bootstrap (Efron 1979): figures of resamples of the records, drawn with
replacement, as many as there are. Pure: the same records have the same intervals.

Since metrics are functions of sums over records, a resample is a row of weights, and thousands of
them are a product of matrices. Records that are of one group are drawn together, as a whole: what
they share makes them tell less than as many that share nothing (the cluster bootstrap).

A percentile interval of a figure that no record speaks against, such as an accuracy of 1, has no
width.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from trainers.tasks.tally import Tally

RESAMPLES = 2000
SEED = 17
WEIGHTS_AT_ONCE = 1 << 22

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def clusters_of(groups: Sequence[Any]) -> Numbers | None:
    """(records,): the cluster of each record, by its group; a record without is its own. None where
    no two records share one."""
    numbers: dict[Any, int] = {}
    keys = [("", place) if group is None else group for place, group in enumerate(groups)]
    found = [numbers.setdefault(key, len(numbers)) for key in keys]
    return None if len(numbers) == len(found) else np.array(found, np.int64)


def intervals(tally: Tally, clusters: Numbers | None = None) -> dict[str, list[float]]:
    """The 95 % interval of each metric, as [low, high]."""
    (metrics,) = resampled([tally], clusters)
    return {name: interval(values) for name, values in metrics.items()}


def interval(values: Values) -> list[float]:
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return [low, high]


def resampled(
    tallies: Sequence[Tally], clusters: Numbers | None = None, resamples: int = RESAMPLES
) -> list[dict[str, Values]]:
    """(resamples,): each metric, of every tally; all of the same rows, and drawn together."""
    counts = [_by_cluster(tally.counts, clusters) for tally in tallies]
    found: list[dict[str, list[Any]]] = [{} for _ in tallies]
    for some in weights(counts[0].shape[0], resamples):
        for tally, of_units, metrics in zip(tallies, counts, found, strict=True):
            for name, values in tally.metrics(some @ of_units).items():
                metrics.setdefault(name, []).append(values)
    return [{name: np.concatenate(parts) for name, parts in metrics.items()} for metrics in found]


def _by_cluster(counts: Any, clusters: Numbers | None) -> Any:
    """(units, counts): what is drawn, records or clusters of them."""
    if clusters is None:
        return counts
    ones, places = np.ones(len(clusters)), np.arange(len(clusters))
    return sparse.csr_array((ones, (clusters, places))) @ counts


def weights(units: int, resamples: int) -> Iterator[Values]:
    """(some resamples, units): how often each unit was drawn."""
    draw = np.random.default_rng(SEED)
    at_once = max(1, WEIGHTS_AT_ONCE // units)
    for begin in range(0, resamples, at_once):
        some = min(at_once, resamples - begin)
        drawn = draw.integers(0, units, (some, units)) + units * np.arange(some)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=some * units)
        yield counted.reshape(some, units).astype(np.float64)
