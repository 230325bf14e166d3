"""The step `read`: every part of every source to cleaned rows.

`rows/PART-START.arrow` is some rows of a part, sorted by the keys of their texts. So a bucket,
which is a range of keys, finds its rows in each file by a binary search, and reads no others.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.errors import UserError
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.examples import weak
from trainers.corpora.examples.label_values import mapped, refusal_of_labels
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.steps.clean_parts import SourcePart
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shuffle import hash_range
from trainers.corpora.text_batches import batched
from trainers.corpora.tokens.pack import read_arrow, write_arrow

ROWS = "rows"
"""Folder of the stage's work."""
CHARACTERS_TOGETHER, ROW_CHARACTERS = 8 << 20, 80
"""What is sorted together, and what a row counts beside its text."""
MAPPED_TO_NULL = "label mapped to null"
SLICES = pa.map_(pa.string(), pa.string())


@dataclasses.dataclass
class Read:
    """What was read of all parts."""

    counts: Counts = dataclasses.field(default_factory=Counts)
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    """Every label, with where one stands."""
    votes: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    """Of every source with weak labels: how many rows have the same votes."""
    bytes: int = 0


def read_rows(
    job: StageJob, parts: Sequence[SourcePart], sources: Mapping[str, Source], task: TaskRows
) -> Read:
    """Reads all parts. Raises UserError for a label that cannot be taken."""
    clean, draft = job.recipe.corpora.clean, job.draft
    rules = {
        name: weak.patterns(source.weak_labels, clean, f"corpora.sources.{name}.weak_labels")
        for name, source in sources.items()
        if source.weak_labels is not None
    }

    def read_part(name: str, part: SourcePart) -> Any:
        source, counts = sources[part.source], Counts()
        documents = task.checked(read(source, part.origin, task.optional_roles))
        documents = cleaned(documents, clean, counts, too_short_or_long, task.cleaned_document)
        labelled = with_labels(documents, source, f"corpora.sources.{part.source}", task, counts)
        labels: dict[str, str] = {}
        votes: collections.Counter[str] = collections.Counter()
        start = size = 0
        with draft.working(ROWS) as folder:
            for some in batched(labelled, CHARACTERS_TOGETHER, _size):
                for document in some:
                    for label in document.label or ():
                        labels.setdefault(label, document.where)
                voted: list[str] | None = None
                if source.weak_labels is not None:
                    texts = [document.text or "" for document in some]
                    voted = [*weak.votes(texts, source.weak_labels, rules[part.source])]
                    votes.update(voted)
                table = _sorted_rows(some, voted, part.number, start, task)
                write_arrow(table, folder / f"{name}-{start:010d}.arrow")
                start, size = start + len(some), size + table.nbytes
        counts.kept = 0  # What becomes of its label and its copies decides.
        return {"counts": counts.document(), "labels": labels, "votes": votes, "bytes": size}

    total = Read(votes={name: collections.Counter() for name in rules})
    read_of = dict.fromkeys(sources, 0)
    items = {part.name: part for part in parts}
    for name, outcome in sorted(each(job, "read", items, read_part, "parts read")):
        counts, source_name = Counts.of(outcome["counts"]), items[name].source
        total.counts.add(counts)
        total.labels = {**outcome["labels"], **total.labels}
        total.bytes += outcome["bytes"]
        read_of[source_name] += counts.read
        if source_name in rules:
            total.votes[source_name].update(outcome["votes"])
    for name, source in sources.items():
        if not read_of[name] and source.weak_labels is None:
            raise UserError(f"corpora.sources.{name}: no rows in {source.path or source.dataset!r}")
    return total


def bucket_rows(draft: Draft, bucket: range, task: TaskRows) -> pa.Table:
    """The rows of a bucket, copies of a text in a row: first the one whose group and text stay."""
    folder = draft.worked(ROWS)
    first, last = hash_range(bucket)
    found = [_schema(task).empty_table()]
    for name in folder.names():
        table = read_arrow(folder / name)
        keys = table["key"].to_numpy()
        start, stop = np.searchsorted(keys, first), np.searchsorted(keys, last, side="right")
        found.append(table.slice(start, stop - start))
    order = [(name, "ascending") for name in ("key", "group", "part", "row")]
    return pa.concat_tables(found).combine_chunks().sort_by(order)


def with_labels(
    documents: Iterator[Document], source: Source, key: str, task: TaskRows, counts: Counts
) -> Iterator[Document]:
    """Documents with their labels by the source's map; what is mapped to null is counted, and so
    are values that slices lack."""
    for document in documents:
        counts.noted.update(
            f"rows without a value of {name}"
            for name, value in document.slices.items()
            if value is None
        )
        if source.weak_labels is not None or not task.has_label:
            found = () if source.weak_labels else (*task.labels_of(document.values),)
            yield dataclasses.replace(document, label=found)
            continue
        assert document.label is not None
        assert document.text is not None
        refused = refusal_of_labels(document.label, source.label_map, key, task.several_labels)
        if refused is not None:
            raise UserError(f"{document.where}: {refused}")
        labels = mapped(document.label, source.label_map)
        if labels is None:
            counts.drop(MAPPED_TO_NULL, text_key(document.text), document.text)
        else:
            yield dataclasses.replace(document, label=labels)


def _size(document: Document) -> int:
    return ROW_CHARACTERS * (1 + len(document.slices)) + len(document.text or "")


def _sorted_rows(
    documents: Sequence[Document],
    votes: Sequence[str] | None,
    part: int,
    start: int,
    task: TaskRows,
) -> pa.Table:
    """Documents of a part, from its row `start` on."""
    texts = [document.text or "" for document in documents]
    keys = np.array([text_key(text) for text in texts], np.uint64)
    columns = [
        keys,
        np.full(len(texts), part),
        np.arange(start, start + len(texts)),
        texts,
        [document.label for document in documents],
        [document.group for document in documents],
        votes or pa.nulls(len(texts), pa.string()),
        [document.values for document in documents],
        [[*document.slices.items()] for document in documents],
    ]
    schema = _schema(task)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema).take(np.argsort(keys, kind="stable"))


def _schema(task: TaskRows) -> pa.Schema:
    """Of rows: `votes` are those of labelling functions, as weak.py writes them, or null; `values`
    are what the task has of a row besides, and `slices` what its source keeps of it."""
    return pa.schema(
        [
            ("key", pa.uint64()),
            ("part", pa.int32()),
            ("row", pa.int64()),
            ("text", pa.large_string()),
            ("labels", pa.list_(pa.string())),
            ("group", pa.string()),
            ("votes", pa.string()),
            ("values", pa.struct([*task.value_types.items()])),
            ("slices", SLICES),
        ]
    )
