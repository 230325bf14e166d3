"""Bring together what belongs together: a task deals its records out to numbered places, and who
has a place collects what all tasks dealt to it.

Each deal is one file, sorted by place, and one with the place's ends in it; so there are as many
files as deals, however many places. Names sort in the order in which records come back.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]

ENDS = ".ends.npy"


def deal(
    folder: Path, name: str, records: Records, places: npt.NDArray[np.integer[Any]], count: int
) -> None:
    """Writes `records` (by their first axis) for `places`, numbers below `count`; those of one
    place keep their order."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[order], np.arange(count), side="right")
    np.save(folder / f"{name}{ENDS}", ends)
    np.save(folder / f"{name}.npy", records[order])


def collect(folder: Path, place: int) -> list[Records]:
    """What was dealt to a place, a piece a deal, in the order of the deals' names."""
    pieces = []
    for path in sorted(folder.glob(f"*{ENDS}")):
        ends = np.load(path, mmap_mode="r")
        start, end = int(ends[place - 1]) if place else 0, int(ends[place])
        if end > start:
            name = path.name.removesuffix(ENDS)
            pieces.append(np.load(folder / f"{name}.npy", mmap_mode="r")[start:end])
    return pieces


def joined(pieces: list[Records], like: Records) -> Records:
    """The pieces one behind the other; none of them like the empty array `like`."""
    return np.concatenate(pieces) if pieces else like
