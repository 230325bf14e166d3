"""Work that killed runs left in a workspace: what a run of the same recipe goes on from, and no
other run ever needs."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.store.artifacts import STAGING, WORK
from cluster.store.storage import Storage


@dataclasses.dataclass(frozen=True)
class Leftover:
    name: str
    """Of its folder in the workspace."""
    bytes: int
    changed: str
    """The day of the newest file, ISO 8601, UTC."""


def found(storage: Storage, runs: Sequence[Mapping[str, Any]]) -> list[Leftover]:
    """The work of no run that goes on, the largest first. `runs` are the workspace's records."""
    in_use = {
        stage["artifact"].partition("/")[2]
        for run in runs
        for stage in run["stages"]
        if stage["status"] == "running" and stage["artifact"]
    }
    left = []
    for place in (WORK, STAGING):
        for folder in storage.folders(place):
            if not any(name in folder for name in in_use):
                left.append(_measured(storage, f"{place}/{folder}"))
    return sorted(left, key=lambda item: (-item.bytes, item.name))


def _measured(storage: Storage, name: str) -> Leftover:
    size, newest = storage.measure(name)
    day = datetime.datetime.fromtimestamp(newest / 1e9, datetime.UTC)
    return Leftover(name, size, f"{day:%Y-%m-%d}")
