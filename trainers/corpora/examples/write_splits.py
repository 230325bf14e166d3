"""The last steps of the examples: training rows that quote evaluation texts are found, and the
splits are written, a bucket of rows at a time.

passages   a bucket: the passages of its validation and test texts
quotes     a bucket: which of these its training texts have
write      a bucket: its rows by split, which are then put together in order
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import CONTAMINATED, HELD_OUT, SAMPLES, Counts, text_key
from trainers.corpora.duplicates.contamination import Passages, boilerplate
from trainers.corpora.duplicates.minhash import Hashes
from trainers.corpora.examples.splits import ELSEWHERE, SPLITS, Fates, Numbers, Rows
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.steps.clean_parts import DOCUMENTS
from trainers.corpora.steps.document_file import DocumentFile
from trainers.corpora.steps.parallel import each

FATES, PASSAGES, KNOWN, HITS, WRITTEN = "fates", "passages", "known", "hits", "written"
"""Folders of the stage's work."""
EQUAL, QUOTING = ELSEWHERE + 1, ELSEWHERE + 2
"""Fates beside the splits: equal to an evaluation text of elsewhere, or quoting one."""
REASONS = {
    ELSEWHERE: "group or near duplicate is in another split",
    EQUAL: HELD_OUT,
    QUOTING: CONTAMINATED,
}
KINDS = {True: "cjk", False: "other"}
"""Of passages."""
RANGES = 16
TRAIN = SPLITS.index("train")
WRITTEN_TOGETHER = 10_000
"""Rows."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the rows of every bucket stand among all, by the bucket's name."""

    of_bucket: Mapping[str, slice]

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> "Places":
        ends = np.cumsum([0, *sizes.values()]).tolist()
        return cls({name: slice(ends[n], ends[n + 1]) for n, name in enumerate(sizes)})


def drop_quotes(
    job: StageJob, places: Places, rows: Rows, fates: Fates, further: Sequence[str]
) -> None:
    """Changes the fate of training rows that are equal to `further` evaluation texts, or quote
    those or the rows for validation and test."""
    draft, train = job.draft, fates == TRAIN
    keys = np.array([text_key(text) for text in further], np.uint64)
    save_fates(draft, places, fates)
    known = _passages(job, places, Passages.of(further))
    if len(known):
        with_hits = _hits(job, places)
        documents_with = np.zeros(len(known), np.int64)
        for name in with_hits:
            documents_with += known.documents_with(np.load(draft.worked(HITS) / f"{name}.npy"))
        is_boilerplate = boilerplate(documents_with, int(train.sum()))
        for name in with_hits:
            hits = np.load(draft.worked(HITS) / f"{name}.npy")
            fates[places.of_bucket[name]][known.quoting(hits, is_boilerplate)] = QUOTING
    fates[train & np.isin(rows.keys, keys)] = EQUAL


def save_fates(draft: Draft, places: Places, fates: Fates, times: Numbers | None = None) -> None:
    with draft.working(FATES) as folder:
        for name, own in places.of_bucket.items():
            repeated = np.ones(own.stop - own.start, np.int64) if times is None else times[own]
            np.savez(folder / f"{name}.npz", fates=fates[own], times=repeated)


def _fates(draft: Draft, name: str) -> tuple[Fates, Numbers]:
    with np.load(draft.worked(FATES) / f"{name}.npz") as found:
        return found["fates"], found["times"]


def _documents(draft: Draft, name: str) -> DocumentFile:
    return DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")


def _passages(job: StageJob, places: Places, further: Passages) -> Passages:
    """The passages of all evaluation texts, left where tasks find them."""
    draft = job.draft

    def find(name: str, _: Any) -> Any:
        fates, _ = _fates(draft, name)
        held_out = np.flatnonzero((fates != TRAIN) & (fates < ELSEWHERE))
        found = Passages.of(_documents(draft, name).texts(held_out))
        with draft.working(PASSAGES) as folder:
            for cjk, kind in KINDS.items():
                np.save(folder / f"{name}-{kind}.npy", found.of_kind[cjk])

    for _ in each(job, "passages", dict.fromkeys(places.of_bucket), find):
        pass
    known = {}
    with draft.working(KNOWN) as folder:
        for cjk, kind in KINDS.items():
            found = [further.of_kind[cjk]]
            for name in places.of_bucket:
                path = draft.worked(PASSAGES) / f"{name}-{kind}.npy"
                found.append(np.load(path, mmap_mode="r"))
            known[cjk] = _union(found)
            np.save(folder / f"{kind}.npy", known[cjk])
    return Passages(known)


def _union(found: list[Hashes]) -> Hashes:
    """Of sorted hashes, each once; a range at a time, for less memory."""
    ends = (np.arange(1, RANGES, dtype=np.uint64) * np.uint64(2**64 // RANGES)).tolist()
    cuts = [[0, *np.searchsorted(some, np.array(ends, np.uint64)), len(some)] for some in found]
    return np.concatenate(
        [
            np.unique(
                np.concatenate([s[c[n] : c[n + 1]] for s, c in zip(found, cuts, strict=True)])
            )
            for n in range(RANGES)
        ]
    )


def _hits(job: StageJob, places: Places) -> list[str]:
    """Finds the passages that training rows have; the names of the buckets that have any."""
    draft = job.draft

    def find(name: str, _: Any) -> Any:
        folder = draft.worked(KNOWN)
        known = Passages(
            {cjk: np.load(folder / f"{kind}.npy", mmap_mode="r") for cjk, kind in KINDS.items()}
        )
        fates, _ = _fates(draft, name)
        train = np.flatnonzero(fates == TRAIN)
        hits = known.hits(_documents(draft, name).texts(train), train.tolist())
        if len(hits):
            with draft.working(HITS) as to:
                np.save(to / f"{name}.npy", hits)
        return len(hits)

    return sorted(
        name for name, n in each(job, "quotes", dict.fromkeys(places.of_bucket), find) if n
    )


def write_splits(
    job: StageJob, places: Places, rows: Rows, names: Sequence[str], task: TaskRows
) -> Counts:
    """Writes `SPLIT.arrow`, in the order of the keys; returns what was dropped since the rows were
    merged, with samples."""
    draft = job.draft
    schema = task.example_schema

    def write(name: str, of_bucket: tuple[Any, Any]) -> Any:
        labels, ends = of_bucket
        fates, times = _fates(draft, name)
        documents = _documents(draft, name)
        counts = Counts()
        for fate, why in REASONS.items():
            gone = np.flatnonzero(fates == fate)
            counts.dropped[why] += len(gone)
            for key, text in zip(
                documents.keys(gone[:SAMPLES]).tolist(),
                documents.texts(gone[:SAMPLES]),
                strict=True,
            ):
                counts.sample(why, key, text)
        for number, split in enumerate(SPLITS):
            with draft.working(f"{WRITTEN}/{split}") as folder:
                path = str(folder / f"{name}.arrow")
                with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
                    chosen = np.flatnonzero(fates == number)
                    for start in range(0, len(chosen), WRITTEN_TOGETHER):
                        some = chosen[start : start + WRITTEN_TOGETHER]
                        own = [
                            [
                                names[label]
                                for label in labels[ends[row - 1] if row else 0 : ends[row]]
                            ]
                            for row in some.tolist()
                        ]
                        batch = _batch(documents, some, own, task)
                        stream.write_batch(
                            batch.take(pa.array(np.repeat(np.arange(len(some)), times[some])))
                        )
        return counts.document()

    items = {}
    for name, own in places.of_bucket.items():
        first = int(rows.ends[own.start - 1]) if own.start else 0
        ends = rows.ends[own]
        items[name] = (rows.labels[first : ends[-1] if len(ends) else first], ends - first)
    total = Counts()
    for _, outcome in each(job, "write", items, write):
        total.add(Counts.of(outcome))
    with draft.folder() as folder:
        for split in SPLITS:
            path = str(folder / f"{split}.arrow")
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
                for batch in _written(draft, split, places):
                    stream.write_batch(batch)
    return total


def _batch(
    documents: DocumentFile,
    rows: npt.NDArray[np.int64],
    labels: list[list[str]],
    task: TaskRows,
) -> pa.RecordBatch:
    table, schema = documents.table(rows), task.example_schema
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    ids = pa.array(f"{key:016x}" for key in columns["key"].to_pylist())
    columns |= {"id": ids, "label": pa.array(labels, pa.list_(pa.string()))}
    if task.has_label and not task.several_labels:
        columns["label"] = columns["label"].flatten()
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _written(draft: Draft, split: str, places: Places) -> Iterator[pa.RecordBatch]:
    for name in places.of_bucket:
        path = draft.worked(f"{WRITTEN}/{split}") / f"{name}.arrow"
        yield from pa.ipc.open_stream(pa.memory_map(str(path)))
