"""The steps that find near duplicates on the cluster; no process holds more than a part or bucket.

    sign      a part: sketches of its documents' MinHash signatures, whose bands go to buckets
    match     a bucket of bands: documents that met in a band and are alike, as edges
    star-N    a bucket of edges: rounds that bring clusters together (components.py)
    mark      a bucket of clusters: all but the first of each dealt to their parts

A document is a number: its part, and its place among the documents of the part that are left. Those
held out for evaluation come first, so that the first of a cluster, which stays, is one of them if
there is any.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import by_bit_length
from trainers.corpora.duplicates import components, minhash
from trainers.corpora.duplicates.components import Edges
from trainers.corpora.hashing import mix
from trainers.corpora.steps import document_file
from trainers.corpora.steps.clean_parts import DOCUMENTS, LEFT, SourcePart
from trainers.corpora.steps.document_file import DocumentFile
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shard_assignment import cut
from trainers.corpora.steps.shuffle import Records, buckets, collect, deal, place_of

HELD_OUT = "held-out"
"""Names the documents that evaluation holds out, as a part before all others."""
PLACE_BITS = 40
BAND = np.dtype([("hash", np.uint64), ("document", np.int64)])
DUPLICATE = np.dtype([("place", np.int64), ("held_out", np.bool_)])
NO_EDGES = np.empty((0, 2), np.int64)
Buckets = Mapping[str, range]
BANDS_BYTES = 64_000_000
"""Of bands that are dealt together."""
TOGETHER_BYTES, DOCUMENT_BYTES = 1_000_000, 100
"""Texts whose signatures are made together, in UTF-8, and what the signature of a document counts
beside its text."""
MATCHED_TOGETHER = 8_000
"""Documents whose bands make a bucket, about. They are forty times as many as the documents, and
would take most of a task's memory, with the sketches of those that met."""
BANDS, SKETCHES, SIZES, DUPLICATES = "near/bands", "near/sketches", "near/sizes", "near/duplicates"


def find(
    job: StageJob,
    parts: list[SourcePart],
    documents: int,
    held_out: Iterable[str],
    similarity: float,
) -> dict[str, Any]:
    """Deals to every part what of it is a near duplicate, for `duplicates_of`.

    `left/PART.npy` has the rows that are left of each part, of `documents` in all. Returns how many
    `documents` are near duplicates, the `clusters`, and their `sizes` by bit length.
    """
    with job.draft.working(DOCUMENTS) as folder:
        keys = document_file.write(held_out, folder / f"{HELD_OUT}.arrow")
    with job.draft.working(LEFT) as folder:
        np.save(folder / f"{HELD_OUT}.npy", np.arange(len(keys)))
    names = [HELD_OUT, *(part.name for part in parts)]
    match(job, names, documents, similarity)
    in_buckets = buckets(documents)
    return _mark(job, names, in_buckets, clusters(job, in_buckets))


def match(job: StageJob, names: list[str], documents: int, similarity: float) -> None:
    """Deals edges between documents that are alike and are left of files of these names."""
    _sign(job, names, minhash.band_rows(similarity))
    _match(job, names, buckets(documents, MATCHED_TOGETHER), similarity)


def duplicates_of(draft: Draft, part: SourcePart) -> Records:
    """The near duplicates of a part: `place` among its kept documents, and whether they are like
    one that is held out."""
    return collect(
        draft.worked(DUPLICATES), range(part.number + 1, part.number + 2), np.empty(0, DUPLICATE)
    )


def _sign(job: StageJob, names: list[str], band_rows: int) -> None:
    draft = job.draft

    def sign(name: str, number: int) -> None:
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        rows = np.load(draft.worked(LEFT) / f"{name}.npy")
        shape = (len(rows), minhash.PERMUTATIONS)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with (
            draft.working(SKETCHES) as sketch_folder,
            draft.working(SIZES) as size_folder,
            draft.working(BANDS) as band_folder,
            # Not as a map: a full disk ends the process that writes to one, without a word.
            (sketch_folder / f"{name}.npy").open("wb") as sketches,
        ):
            np.lib.format.write_array_header_1_0(sketches, header)
            sizes = np.empty(len(rows), np.int32)
            waiting: list[npt.NDArray[Any]] = []
            for start, stop, _ in cut(
                documents.lengths(rows, pc.binary_length) + DOCUMENT_BYTES, TOGETHER_BYTES
            ):
                signed, sizes[start:stop] = minhash.signatures(
                    list(documents.texts(rows[start:stop]))
                )
                sketches.write(minhash.sketches(signed).tobytes())
                waiting.append(_bands(signed, (number << PLACE_BITS) + start, band_rows))
                if stop == len(rows) or sum(bands.nbytes for bands in waiting) > BANDS_BYTES:
                    bands = np.concatenate(waiting)
                    deal(band_folder, f"{name}-{start:010d}", bands, place_of(bands["hash"]))
                    waiting = []
            np.save(size_folder / f"{name}.npy", sizes)

    items = {name: number for number, name in enumerate(names)}
    for _ in each(job, "sign", items, sign, "parts read for near duplicates"):
        pass


def _bands(signed: minhash.Signatures, first: int, band_rows: int) -> npt.NDArray[Any]:
    """The bands of documents that are numbered from `first` on."""
    hashes = minhash.bands(signed, band_rows)
    bands = np.empty(hashes.size, BAND)
    bands["hash"] = hashes.ravel()
    bands["document"] = np.repeat(first + np.arange(len(signed)), hashes.shape[1])
    return bands


def _match(job: StageJob, names: list[str], buckets: Buckets, similarity: float) -> None:
    """Deals the edges between documents that are alike, from both their ends."""
    draft = job.draft

    def match(name: str, places: range) -> None:
        bands = collect(draft.worked(BANDS), places, np.empty(0, BAND))
        sketched = functools.partial(_sketches, draft, names)
        found = minhash.alike(bands["hash"], bands["document"], sketched, similarity)
        edges = components.contracted(found)
        deal_edges(draft, edges_folder(0), name, components.both_ways(edges))

    for _ in each(job, "match", buckets, match, "parts searched for near duplicates"):
        pass


def clusters(job: StageJob, buckets: Buckets) -> str:
    """From the edges that were dealt, the folder of edges in which every document of a cluster
    points to the first, and back."""
    before, number = None, 0
    while True:
        small = f"near/small-{number}"
        large_star, downwards = components.large_star, components.downwards
        _star(job, f"star-{number}a", buckets, large_star, edges_folder(number), downwards, small)
        small_star, both_ways = components.small_star, components.both_ways
        following = edges_folder(number + 1)
        now = _star(job, f"star-{number}b", buckets, small_star, small, both_ways, following)
        if now == before:
            return following
        before, number = now, number + 1


def _star(
    job: StageJob,
    step: str,
    buckets: Buckets,
    operation: Callable[[Edges], Edges],
    source: str,
    turned: Callable[[Edges], Edges],
    target: str,
) -> int:
    """One operation on all buckets of `source`; what it makes is `turned` and dealt out to
    `target`. Returns its checksum."""
    draft = job.draft

    def star(name: str, places: range) -> int:
        edges = operation(collect(draft.worked(source), places, NO_EDGES))
        deal_edges(draft, target, name, turned(edges))
        return components.checksum(edges)

    return sum(made for _, made in each(job, step, buckets, star, "parts grouped")) % 2**64


def _mark(job: StageJob, names: list[str], buckets: Buckets, clusters: str) -> dict[str, Any]:
    draft = job.draft

    def mark(name: str, places: range) -> Any:
        edges = collect(draft.worked(clusters), places, NO_EDGES)
        first, second = edges[:, 0], edges[:, 1]
        pointing = first > second
        node, root = first[pointing], second[pointing]
        records = np.empty(len(node), DUPLICATE)
        records["place"] = node & ((1 << PLACE_BITS) - 1)
        records["held_out"] = (root >> PLACE_BITS) == 0
        with draft.working(DUPLICATES) as folder:
            deal(folder, name, records, node >> PLACE_BITS, len(names))
        # What is held out is like its own kind too, which is of no part.
        _, others = np.unique(first[~pointing & (second >> PLACE_BITS > 0)], return_counts=True)
        in_parts = int((node >> PLACE_BITS > 0).sum())
        return {"documents": in_parts, "sizes": by_bit_length(others + 1)}

    sizes: collections.Counter[str] = collections.Counter()
    documents = 0
    for _, outcome in each(job, "mark", buckets, mark, "parts of near duplicates marked"):
        documents += outcome["documents"]
        sizes.update(outcome["sizes"])
    return {"documents": documents, "clusters": sizes.total(), "sizes": dict(sorted(sizes.items()))}


def _sketches(
    draft: Draft, names: list[str], documents: npt.NDArray[np.int64]
) -> tuple[minhash.Sketches, npt.NDArray[np.int32]]:
    """Of any documents, sorted: (documents, PERMUTATIONS), and the number of shingles of each."""
    found = np.empty((len(documents), minhash.PERMUTATIONS), np.uint8)
    sizes = np.empty(len(documents), np.int32)
    numbers, places = documents >> PLACE_BITS, documents & ((1 << PLACE_BITS) - 1)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    for start, stop in itertools.pairwise([*starts, len(documents)]):
        for folder, of_part in ((SKETCHES, found), (SIZES, sizes)):
            path = draft.worked(folder) / f"{names[numbers[start]]}.npy"
            of_part[start:stop] = np.load(path, mmap_mode="r")[places[start:stop]]
    return found, sizes


def deal_edges(draft: Draft, folder_name: str, name: str, edges: Edges) -> None:
    """Deals edges to the places of their first nodes."""
    with draft.working(folder_name) as folder:
        deal(folder, name, edges, place_of(mix(edges[:, 0].astype(np.uint64))))


def edges_folder(number: int) -> str:
    """Where the edges of a round are dealt; those of round 0 to begin with."""
    return f"near/large-{number}"
