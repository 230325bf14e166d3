"""All figures of an evaluation, from its records and nothing else. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.lazy_import import lazy_import
from trainers.corpora.reading.config import GROUP
from trainers.scoring.evaluation.bootstrap import Numbers, clusters_of, intervals
from trainers.scoring.evaluation.paired import differences, flips
from trainers.scoring.evaluation.records import Record
from trainers.scoring.evaluation.slices import slices, unsliced
from trainers.scoring.evaluation.text import BY_GROUP, INTERVALS
from trainers.tasks.calibration import reliability
from trainers.tasks.spec import TaskSection
from trainers.tasks.tally import Tally


def figures(task: TaskSection | type[TaskSection], records: Sequence[Record]) -> dict[str, Any]:
    """Of a task's records, by the task's own function."""
    computed: dict[str, Any] = lazy_import(task.figures)(records)
    return computed


def tally_of(task: TaskSection, records: Sequence[Record]) -> Tally:
    tally: Tally = lazy_import(task.tally)(records)
    return tally


def with_intervals(task: TaskSection, records: Sequence[Record], tally: Tally) -> dict[str, Any]:
    """`figures`, with `intervals` of its metrics over records, and where records have groups also
    `intervals_by_group`; `tally` is that of the records."""
    clusters = _clusters(records)
    computed = {**figures(task, records), INTERVALS: intervals(tally)}
    return computed if clusters is None else {**computed, BY_GROUP: intervals(tally, clusters)}


def sliced(records: Sequence[Record], tally: Tally) -> dict[str, Any]:
    """`slices`, and columns that make none (`unsliced`)."""
    return {
        "slices": slices(records, tally, _clusters(records)),
        "unsliced": unsliced(records),
    }


def details(records: Sequence[Record], tally: Tally) -> dict[str, Any]:
    """What else is to be known of records: what they are `sliced` into; `calibration` where the
    model says probabilities; and `reading`: tokens, and how many texts were cut."""
    computed = sliced(records, tally)
    if tally.answers is not None:
        computed["calibration"] = reliability(tally.answers.confidence, tally.answers.correct)
    tokens = [record["tokens"] for record in records]
    reading = {
        "tokens": sum(tokens),
        "longest": max(tokens),
        "truncated": sum(record["truncated"] for record in records),
    }
    return {**computed, "reading": reading}


def compared(
    task: TaskSection, first: Sequence[Record], second: Sequence[Record]
) -> tuple[dict[str, Any], list[int], list[int]]:
    """A paired test of two models' records of the same rows in the same order (`same_rows`); and
    the places of the rows that only the first has right, and only the second: those where the other
    is most wrong come first.

    The test has `metrics`, each with its difference, interval and p-value; how many rows only one
    has right; and McNemar's p-value of these.
    """
    assert [one["id"] for one in first] == [one["id"] for one in second]
    ours, theirs = tally_of(task, first), tally_of(task, second)
    flipped = flips(ours, theirs)
    test = {
        "metrics": differences(ours, theirs, _clusters(first)),
        "rows": len(first),
        "both_right": int((ours.correct & theirs.correct).sum()),
        "only_first_right": len(flipped.only_first),
        "only_second_right": len(flipped.only_second),
        "p_mcnemar": flipped.p,
    }
    return test, _worst(theirs, flipped.only_first), _worst(ours, flipped.only_second)


def errors(tally: Tally, records: Sequence[Record], most: int) -> list[Record]:
    """The wrong records, the worst first."""
    worst = _worst(tally, np.flatnonzero(~tally.correct))
    return [records[place] for place in worst[:most]]


def _worst(tally: Tally, places: Numbers) -> list[int]:
    """Some of the records by their places, the worst first, equally bad ones in their order."""
    ranked: list[int] = places[np.argsort(-tally.severity[places], kind="stable")].tolist()
    return ranked


def _clusters(records: Sequence[Record]) -> Any:
    return clusters_of([record.get(GROUP) for record in records])
