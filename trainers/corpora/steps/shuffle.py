"""Bring together what belongs together: a task deals its records out to numbered places, and who
has some of the places collects what all tasks dealt to them.

Each deal is one file: where in it the records of each place begin, in bytes, and last where they
all end; then the records, sorted by place. So there are as many files as deals, however many
places, and who collects reads only its own records, also from an object store. Names sort in the
order in which records come back.

What has no place of its own, such as a hash, is dealt to PLACES, of which a bucket is a range: how
many buckets there are can be decided when it is known how much was dealt.
"""

import concurrent.futures
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.store.cache import CachedFolder

Records = npt.NDArray[Any]

STARTS_BYTES = 8
READERS = 16
"""Files read at once: an object store answers each in tens of milliseconds."""
PLACES = 1024
DOCUMENTS_A_BUCKET = 50_000
"""As long as there are places: of more than PLACES times as many documents, 51 million, buckets
grow, and with them the memory of a task."""


def buckets(documents: int, of_each: int = DOCUMENTS_A_BUCKET) -> dict[str, range]:
    """The places of each bucket by its name, for so many documents, `of_each` about so many.
    Pure."""
    count = max(1, min(PLACES, round(documents / of_each)))
    ends = [PLACES * number // count for number in range(count + 1)]
    pairs = enumerate(itertools.pairwise(ends))
    return {f"{number:04d}": range(start, stop) for number, (start, stop) in pairs}


def place_of(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where records with equal hashes come together."""
    return (hashes % np.uint64(PLACES)).astype(np.int64)


def hash_range(places: range) -> tuple[np.uint64, np.uint64]:
    """The first and the last hash of places where these are ranges of hashes: with all of a place
    before all of the next, as those of examples, which are read in the order of their keys."""
    of_each = 2**64 // PLACES
    return np.uint64(places.start * of_each), np.uint64(places.stop * of_each - 1)


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
    dealt = np.ascontiguousarray(records[order])
    ends = np.searchsorted(places[order], np.arange(count), side="right")
    starts = np.concatenate([[0], ends]) * (dealt.nbytes // max(1, len(dealt)))
    with (folder / name).open("wb") as stream:
        stream.write((starts + STARTS_BYTES * (count + 1)).astype("<i8").tobytes())
        stream.write(dealt.view(np.uint8).data)


def collect(folder: CachedFolder, places: range, like: Records) -> Records:
    """What was dealt to neighbouring places, deal after deal in the order of their names. Nothing
    is like the empty array `like`."""

    def span(name: str) -> tuple[int, int]:
        with folder.open(name) as stream:
            size = STARTS_BYTES * (len(places) + 1)
            starts = np.frombuffer(stream.read_at(size, STARTS_BYTES * places.start), "<i8")
        return int(starts[0]), int(starts[-1])

    def fill(item: tuple[str, tuple[int, int], memoryview]) -> None:
        name, (start, stop), target = item
        with folder.open(name) as stream:
            stream.seek(start)
            assert stream.readinto(target) == stop - start

    names = folder.names()
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        spans = list(pool.map(span, names))
        sizes = [stop - start for start, stop in spans]
        raw = np.empty(sum(sizes), np.uint8)
        ends = itertools.accumulate(sizes)
        targets = [raw[end - size : end].data for end, size in zip(ends, sizes, strict=True)]
        wanted = [item for item in zip(names, spans, targets, strict=True) if len(item[2])]
        list(pool.map(fill, wanted))  # raises what a thread raised
    return raw.view(like.dtype).reshape(-1, *like.shape[1:])
