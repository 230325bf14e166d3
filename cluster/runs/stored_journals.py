"""The journals of long stages, read from storage alone: while a stage runs, and ever after.

A stage that keeps a journal writes `metrics.jsonl` and `ledger.jsonl` beside its checkpoints, and
publishes both in its artifact.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.runs.ledger import Account, account
from cluster.store import jsonl
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage

METRICS, LEDGER = "metrics.jsonl", "ledger.jsonl"
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class StoredJournal:
    place: str
    """The folder in the workspace."""
    metrics: list[dict[str, Any]]
    """By step, strictly increasing."""
    entries: list[dict[str, Any]]
    """Of the ledger."""

    @property
    def account(self) -> Account:
        return account(self.entries)

    def points(self, name: str, inside: str | None = None) -> list[Point]:
        """A metric over steps, where it is a number; `inside` the metrics of a validation."""
        rows = [(line["step"], line.get(inside, {}) if inside else line) for line in self.metrics]
        return [(step, values[name]) for step, values in rows if values.get(name) is not None]

    def as_json(self) -> dict[str, Any]:
        """In short, for programs."""
        last = self.metrics[-1] if self.metrics else {}
        return {"place": self.place, **self.account.as_metrics(), "last": last}


def of_run(storage: Storage, run: Mapping[str, Any]) -> dict[str, StoredJournal]:
    """The journals of a run's stages, by stage; also of those that an earlier run had done."""
    journals = {}
    for stage in run["stages"]:
        artifact_id = stage["artifact"]
        for place in (artifact_id, Draft(storage, artifact_id).work) if artifact_id else ():
            entries = jsonl.read(storage, f"{place}/{LEDGER}")
            if entries:
                metrics = jsonl.read(storage, f"{place}/{METRICS}")
                journals[stage["stage"]] = StoredJournal(place, metrics, entries)
                break
    return journals


def thinned(points: Sequence[Point], count: int) -> list[Point]:
    """At most `count` points: the means of neighbours."""
    size = max(1, math.ceil(len(points) / count))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], statistics.fmean(y for _, y in group)) for group in groups]
