"""Find near duplicates on the cluster: signatures of every part, bands brought together in buckets,
clusters by rounds over buckets. No process holds more than a part or a bucket.

A document is a number: its part, and its place in the part; those held out for evaluation come
first, so that the lowest of a cluster, which stays, is one of them if there is any.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.pipeline import StageJob
from trainers.corpora import components, minhash
from trainers.corpora.pack import read_arrow
from trainers.corpora.parallel import each

FOLDER = "near"
"""Inside the draft; deleted before it is published."""
BAND = np.dtype([("hash", np.uint64), ("document", np.int64)])
PLACE_BITS = 40
CHUNK = 20_000
"""Documents whose signatures are in memory at once."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Documents of one cleaned file."""

    name: str
    folder: str
    """`FOLDER/NAME.arrow` inside the draft holds its texts."""
    rows: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Rows to drop, by the name of their part."""

    near: dict[str, npt.NDArray[np.int64]]
    """Like an earlier document."""
    held_out: dict[str, npt.NDArray[np.int64]]
    """Like one that is held out."""


def find(
    job: StageJob, held_out: Sequence[Part], others: Sequence[Part], similarity: float
) -> Duplicates:
    """The rows of `others` that are near duplicates of each other or of what is held out."""
    parts = [*held_out, *others]
    buckets = max(1, len(others))
    _sign(job, parts, buckets, minhash.band_rows(similarity))
    found = _match(job, buckets, similarity)
    pairs = _clusters(job, buckets) if found else np.empty((0, 2), np.int64)
    job.storage.delete(f"{job.draft.place}/{FOLDER}")
    near, like_held_out = {}, {}
    number, place = pairs[:, 0] >> PLACE_BITS, pairs[:, 0] & ((1 << PLACE_BITS) - 1)
    root_is_held_out = (pairs[:, 1] >> PLACE_BITS) < len(held_out)
    for index, part in enumerate(others, start=len(held_out)):
        mine = number == index
        near[part.name] = np.sort(part.rows[place[mine & ~root_is_held_out]])
        like_held_out[part.name] = np.sort(part.rows[place[mine & root_is_held_out]])
    return Duplicates(near, like_held_out)


def _sign(job: StageJob, parts: Sequence[Part], buckets: int, band_rows: int) -> None:
    draft = job.draft

    def sign(item: dict[str, Any]) -> None:
        part, number = item["part"], item["number"]
        folder = draft.storage.local(f"{draft.place}/{part.folder}")
        table = read_arrow(folder / f"{part.name}.arrow")
        with draft.folder() as folder:
            for start in range(0, len(part.rows), CHUNK):
                texts = table["text"].take(part.rows[start : start + CHUNK]).to_pylist()
                found, sizes = minhash.signatures(texts)
                name = f"{number}-{start // CHUNK}"
                _save(folder / FOLDER / "signatures" / f"{name}.npy", found)
                _save(folder / FOLDER / "sizes" / f"{name}.npy", sizes)
                hashes = minhash.bands(found, band_rows)
                documents = (number << PLACE_BITS) + np.arange(start, start + len(found))
                bands = np.empty(hashes.size, BAND)
                bands["hash"] = hashes.ravel()
                bands["document"] = np.repeat(documents, hashes.shape[1])
                where = (bands["hash"] % np.uint64(buckets)).astype(np.int64)
                for bucket in range(buckets):
                    place = folder / FOLDER / "bands" / str(bucket) / f"{name}.npy"
                    _save(place, bands[where == bucket])

    items = [{"part": part, "number": number} for number, part in enumerate(parts)]
    list(each(job, items, sign, "files signed"))


def _match(job: StageJob, buckets: int, similarity: float) -> int:
    """Writes the edges between documents that are alike; returns how many."""
    draft = job.draft

    def match(item: dict[str, Any]) -> int:
        signed = _Signed(draft.storage.local(f"{draft.place}/{FOLDER}"))
        bands = _load_all(signed.folder / "bands" / str(item["bucket"]), BAND)
        bands = bands[np.argsort(bands["hash"], kind="stable")]
        ends = np.flatnonzero(bands["hash"][1:] != bands["hash"][:-1]) + 1
        edges: list[components.Edges] = []
        starts = np.concatenate([[0], ends])
        for start, count in zip(starts, np.diff(np.append(starts, len(bands))), strict=True):
            if count > 1:
                documents = np.unique(bands["document"][start : start + count])
                found, sizes = signed.at(documents)
                for first, others in minhash.matches(found, sizes, similarity):
                    root = np.full(len(others), documents[first])
                    edges.append(np.stack([documents[others], root], axis=1))
        together = np.unique(np.concatenate(edges), axis=0) if edges else np.empty((0, 2), np.int64)
        with draft.folder() as folder:
            _deal(components.both_ways(together), folder / FOLDER / "large-0", item, buckets)
        return len(together)

    items = [{"bucket": bucket} for bucket in range(buckets)]
    return sum(each(job, items, match, "buckets matched"))


def _clusters(job: StageJob, buckets: int) -> components.Edges:
    """Every document that is not the lowest of its cluster, with the lowest."""
    before, number = None, 0
    while True:
        large, small, following = f"large-{number}", f"small-{number}", f"large-{number + 1}"
        _star(job, buckets, components.large_star, large, components.downwards, small)
        now = _star(job, buckets, components.small_star, small, components.both_ways, following)
        if now == before:
            folder = job.storage.local(f"{job.draft.place}/{FOLDER}") / following
            edges = np.concatenate([_edges(folder / str(bucket)) for bucket in range(buckets)])
            return np.unique(components.downwards(edges), axis=0)
        before, number = now, number + 1


def _star(
    job: StageJob,
    buckets: int,
    operation: Callable[[components.Edges], components.Edges],
    source: str,
    turned: Callable[[components.Edges], components.Edges],
    target: str,
) -> int:
    """One operation on all buckets in folder `source`; what it makes is `turned` and dealt out to
    `target`. Returns its checksum."""
    draft = job.draft

    def star(item: dict[str, Any]) -> int:
        folder = draft.storage.local(f"{draft.place}/{FOLDER}") / source
        edges = operation(_edges(folder / str(item["bucket"])))
        with draft.folder() as written:
            _deal(turned(edges), written / FOLDER / target, item, buckets)
        return components.checksum(edges)

    items = [{"bucket": bucket} for bucket in range(buckets)]
    return sum(each(job, items, star, "buckets joined")) % 2**64


class _Signed:
    """Signatures of any documents, memory-mapped."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._open = functools.lru_cache(maxsize=512)(
            lambda kind, name: np.load(folder / kind / f"{name}.npy", mmap_mode="r")
        )

    def at(
        self, documents: npt.NDArray[np.int64]
    ) -> tuple[minhash.Signatures, npt.NDArray[np.int32]]:
        found = np.empty((len(documents), minhash.PERMUTATIONS), np.uint32)
        sizes = np.empty(len(documents), np.int32)
        for index, document in enumerate(documents.tolist()):
            number, place = document >> PLACE_BITS, document & ((1 << PLACE_BITS) - 1)
            name = f"{number}-{place // CHUNK}"
            found[index] = self._open("signatures", name)[place % CHUNK]
            sizes[index] = self._open("sizes", name)[place % CHUNK]
        return found, sizes


def _deal(edges: components.Edges, folder: Path, item: dict[str, Any], buckets: int) -> None:
    """Writes edges to the buckets of their first nodes."""
    where = components.bucket_of(edges[:, 0], buckets)
    for bucket in range(buckets):
        _save(folder / str(bucket) / f"{item['bucket']}.npy", edges[where == bucket])


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def _edges(folder: Path) -> components.Edges:
    return _load_all(folder, np.dtype(np.int64)).reshape(-1, 2)


def _load_all(folder: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The arrays of a folder, flat, one behind the other."""
    found = [np.load(path).reshape(-1) for path in sorted(folder.glob("*.npy"))]
    return np.concatenate(found) if found else np.empty(0, kind)
