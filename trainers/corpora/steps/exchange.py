"""Bring together what belongs together: a task deals its records out to numbered places, and who
has some of the places collects what all tasks dealt to them.

Each deal is one file, sorted by place, and one with the places' ends in it; so there are as many
files as deals, however many places. Names sort in the order in which records come back.

What has no place of its own, such as a hash, is dealt to PLACES, of which a bucket is a range: how
many buckets there are can be decided when it is known how much was dealt.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]

ENDS = ".ends.npy"
PLACES = 1024
DOCUMENTS_A_BUCKET = 50_000


def buckets(documents: int) -> dict[str, range]:
    """The places of each bucket by its name, for so many documents. Pure."""
    count = max(1, min(PLACES, round(documents / DOCUMENTS_A_BUCKET)))
    ends = [PLACES * number // count for number in range(count + 1)]
    pairs = enumerate(itertools.pairwise(ends))
    return {f"{number:04d}": range(start, stop) for number, (start, stop) in pairs}


def place_of(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where records with equal hashes come together."""
    return (hashes % np.uint64(PLACES)).astype(np.int64)


def deal(
    folder: Path,
    name: str,
    records: Records,
    places: npt.NDArray[np.integer[Any]],
    count: int = PLACES,
) -> None:
    """Writes `records` (by their first axis) for `places`, numbers below `count`; those of one
    place keep their order."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[order], np.arange(count), side="right")
    np.save(folder / f"{name}{ENDS}", ends)
    np.save(folder / f"{name}.npy", records[order])


def collect(folder: Path, places: range, like: Records) -> Records:
    """What was dealt to neighbouring places, deal after deal in the order of their names. Nothing
    is like the empty array `like`."""
    pieces = [like]
    for path in sorted(folder.glob(f"*{ENDS}")):
        ends = np.load(path, mmap_mode="r")
        start = int(ends[places.start - 1]) if places.start else 0
        stop = int(ends[places.stop - 1])
        if stop > start:
            name = path.name.removesuffix(ENDS)
            pieces.append(np.load(folder / f"{name}.npy", mmap_mode="r")[start:stop])
    return np.concatenate(pieces)


def one(place: int) -> range:
    """A place alone."""
    return range(place, place + 1)
