"""What long stages told of themselves: read from storage alone, while they run and ever after.

A stage that keeps a journal writes `metrics.jsonl` and `ledger.jsonl` beside its checkpoints, and
publishes both in its artifact.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cluster.cli.drawing import Point
from cluster.runs.ledger import Account, account
from cluster.store import jsonl
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage

METRICS, LEDGER = "metrics.jsonl", "ledger.jsonl"


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
        found = [(one["step"], one.get(inside, {}) if inside else one) for one in self.metrics]
        return [(step, values[name]) for step, values in found if values.get(name) is not None]


def of_run(storage: Storage, run: Mapping[str, Any]) -> dict[str, StoredJournal]:
    """The journals of a run's stages, by stage; of those too that an earlier run had done."""
    found = {}
    for stage in run["stages"]:
        if stage["artifact"]:
            journal = _at(storage, stage["artifact"])
            if journal is not None:
                found[stage["stage"]] = journal
    return found


def _at(storage: Storage, artifact_id: str) -> StoredJournal | None:
    for place in (artifact_id, Draft(storage, artifact_id).work):
        entries = jsonl.read(storage, f"{place}/{LEDGER}")
        if entries:
            return StoredJournal(place, jsonl.read(storage, f"{place}/{METRICS}"), entries)
    return None


def as_json(journal: StoredJournal) -> dict[str, Any]:
    """In short, for programs."""
    last = journal.metrics[-1] if journal.metrics else {}
    return {"place": journal.place, **journal.account.as_metrics(), "last": last}
