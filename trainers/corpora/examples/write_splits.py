"""The last steps of the examples: training rows that quote evaluation texts are found, and the
splits are written, a bucket of rows at a time.

passages   of all rows for validation and test                 steps/quotes.py
quotes     a bucket: which of these its training rows have
write      a bucket: its rows by split, which are then put together in order
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import CONTAMINATED, HELD_OUT, SAMPLES, Counts, text_key
from trainers.corpora.examples.splits import ELSEWHERE, SPLITS, Fates, Numbers, Rows
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import SOURCE
from trainers.corpora.steps import quotes
from trainers.corpora.steps.clean_parts import DOCUMENTS
from trainers.corpora.steps.document_file import DocumentFile
from trainers.corpora.steps.parallel import each
from trainers.corpora.tokens.pack import read_arrow, write_arrow

WRITTEN = "written"
"""Folder of the stage's work."""
EQUAL, QUOTING = ELSEWHERE + 1, ELSEWHERE + 2
"""Fates beside the splits: equal to an evaluation text of elsewhere, or quoting one."""
REASONS = {
    ELSEWHERE: "group, prompt or near duplicate is in another split",
    EQUAL: HELD_OUT,
    QUOTING: CONTAMINATED,
}
TRAIN = SPLITS.index("train")

Buckets = Mapping[str, slice]
"""Where the rows of each stand among all, by name, in order."""


def drop_quotes(
    job: StageJob, buckets: Buckets, rows: Rows, fates: Fates, further: Sequence[str]
) -> None:
    """Changes the fate of training rows that are equal to `further` evaluation texts, or quote
    those or the rows for validation and test."""
    draft = job.draft
    is_train = fates == TRAIN
    is_held_out = ~is_train & (fates < ELSEWHERE)
    held_out = {name: np.flatnonzero(is_held_out[own]) for name, own in buckets.items()}

    def evaluation_texts(item: tuple[Sequence[str], Mapping[str, Any]]) -> Iterator[str]:
        further, held_out = item
        yield from further
        for name, places in held_out.items():
            yield from _documents(draft, name).texts(places)

    def find(name: str, train: npt.NDArray[np.int64]) -> bool:
        return quotes.leave_hits(draft, name, _documents(draft, name), train)

    quotes.find_passages(job, evaluation_texts, (further, held_out))
    items = {name: np.flatnonzero(is_train[own]) for name, own in buckets.items()}
    with_hits = [
        name
        for name, has_hits in each(job, "quotes", items, find, "parts searched for quotes")
        if has_hits
    ]
    for name, places in quotes.quoting(draft, with_hits, int(is_train.sum())):
        fates[buckets[name]][places] = QUOTING
    keys = np.array([text_key(text) for text in further], np.uint64)
    fates[is_train & np.isin(rows.keys, keys)] = EQUAL


def write_splits(
    job: StageJob, buckets: Buckets, fates: Fates, times: Numbers, task: TaskRows
) -> Counts:
    """Writes `SPLIT.arrow`, in the order of the keys, each row so many `times`; returns what was
    dropped since the rows were merged, with samples."""
    draft, slices = job.draft, job.recipe.corpora.slices

    def write(name: str, item: tuple[Fates, Numbers]) -> Any:
        own, own_times = item
        rows = read_arrow(draft.worked(DOCUMENTS) / f"{name}.arrow")
        for number, split in enumerate(SPLITS):
            chosen = np.flatnonzero(own == number)
            some = rows.take(np.repeat(chosen, own_times[chosen]))
            with draft.working(f"{WRITTEN}/{split}") as folder:
                write_arrow(_as_examples(some, task, slices), folder / f"{name}.arrow")
        return _dropped(_documents(draft, name), own).document()

    total = Counts()
    items = {name: (fates[own], times[own]) for name, own in buckets.items()}
    for _, outcome in each(job, "write", items, write, "parts written"):
        total.add(Counts.of(outcome))
    schema = _schema(task, slices)
    with draft.folder() as folder:
        for split in SPLITS:
            path = str(folder / f"{split}.arrow")
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
                for name in buckets:
                    made = draft.worked(f"{WRITTEN}/{split}") / f"{name}.arrow"
                    stream.write_table(read_arrow(made))
    return total


def _schema(task: TaskRows, slices: Sequence[str]) -> pa.Schema:
    return pa.schema([*task.example_schema, *((name, pa.string()) for name in slices)])


def _as_examples(rows: pa.Table, task: TaskRows, slices: Sequence[str]) -> pa.Table:
    schema = _schema(task, slices)
    labels = rows["labels"] if task.several_labels else pc.list_flatten(rows["labels"])
    columns = {
        "id": pa.array([f"{key:016x}" for key in rows["key"].to_pylist()], pa.string()),
        "text": rows["text"],
        "label": labels,
        "group": rows["group"],
        SOURCE: rows[SOURCE],
        **{role: pc.struct_field(rows["values"], role) for role in task.values},
        **{name: pc.map_lookup(rows["slices"], name, "first") for name in slices},
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _dropped(documents: DocumentFile, fates: Fates) -> Counts:
    counts = Counts()
    for fate, reason in REASONS.items():
        rows = np.flatnonzero(fates == fate)
        counts.dropped[reason] += len(rows)
        first = rows[:SAMPLES]  # Those with the lowest keys.
        for key, text in zip(documents.keys(first).tolist(), documents.texts(first), strict=True):
            counts.sample(reason, key, text)
    return counts


def _documents(draft: Draft, name: str) -> DocumentFile:
    return DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
