"""The step `read`: every part of every source with labels to cleaned rows. Texts and groups go to a
file of the part, what decides about rows to places by the key of their text.

Labels, groups and patterns of votes are text of any length; records have hashes of them, and what
the step returns has the labels and patterns themselves.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.runs.pipeline import StageJob
from trainers.corpora.cleaning.documents import Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.examples import weak
from trainers.corpora.examples.label_values import mapped, refusal_of_labels
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.steps import document_file
from trainers.corpora.steps.clean_parts import Part
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shuffle import deal, range_of

TEXTS, ROWS, LABELS = "texts", "rows", "labels"
"""Folders of the stage's work: `texts/PART.arrow`; records of rows and of their labels, dealt."""
ROW = np.dtype(
    [("key", np.uint64), ("part", np.int32), ("row", np.int64), ("group", np.uint64),
     ("votes", np.uint64)]
)  # fmt: skip
"""`group` and `votes` are hashes; 0 of a row without."""
LABEL = np.dtype([("key", np.uint64), ("part", np.int32), ("row", np.int64), ("label", np.uint64)])
DEALT_TOGETHER = 100_000
"""Rows."""
MAPPED_TO_NULL = "label mapped to null"


@dataclasses.dataclass
class Read:
    """What was read of all parts."""

    counts: Counts
    labels: dict[str, str]
    """Every label, with where one stands."""
    patterns: dict[str, dict[int, list[int]]]
    """Votes by their hash, of every source with weak labels."""
    text_bytes: int = 0


def read_parts(
    job: StageJob, parts: list[Part], sources: Mapping[str, Source], task: TaskRows
) -> Read:
    """Reads all parts. Raises UserError for a label that cannot be taken."""
    clean, draft = job.recipe.corpora.clean, job.draft
    rules = {
        name: weak.patterns(source.weak_labels, clean, f"corpora.sources.{name}.weak_labels")
        for name, source in sources.items()
        if source.weak_labels is not None
    }

    def read_part(name: str, part: Part) -> Any:
        source, counts, found = sources[part.source], Counts(), _Found()
        documents = task.checked(read(source, part.origin))
        documents = cleaned(documents, clean, counts, too_short_or_long, task.cleaned_document)
        rows = _labelled(documents, source, f"corpora.sources.{part.source}", task, counts)
        with draft.working(TEXTS) as texts, draft.working(ROWS) as to, draft.working(LABELS) as of:
            writer = document_file.Writer(texts / f"{name}.arrow", task.value_types)
            waiting: list[tuple[Document, tuple[str, ...]]] = []

            def flush(start: int) -> None:
                keys = writer.write(
                    [document.text or "" for document, _ in waiting],
                    [document.group for document, _ in waiting],
                    *([document.values[role] for document, _ in waiting] for role in task.values),
                )
                records, labels = found.records(waiting, keys, part.number, start)
                if source.weak_labels is not None:
                    texts_ = [document.text or "" for document, _ in waiting]
                    votes = weak.votes(texts_, source.weak_labels, rules[part.source])
                    records["votes"] = found.patterns_of(part.source, votes)
                deal(to, f"{name}-{start:010d}", records, range_of(keys))
                deal(of, f"{name}-{start:010d}", labels, range_of(labels["key"]))
                waiting.clear()

            row = 0
            with writer:
                for row, each_row in enumerate(rows, start=1):
                    waiting.append(each_row)
                    if len(waiting) == DEALT_TOGETHER or writer.is_full(waiting[-1][0].text or ""):
                        flush(row - len(waiting))
                if waiting:
                    flush(row - len(waiting))
        counts.kept = 0  # not yet: what becomes of its label and its copies decides
        return {
            "counts": counts.document(),
            "labels": found.labels,
            "patterns": {str(key): votes for key, votes in found.patterns.items()},
            "text_bytes": writer.text_bytes,
            "has_groups": found.has_groups,
        }

    total = Read(Counts(), {}, {name: {} for name in rules})
    read_rows = dict.fromkeys(sources, 0)
    items = {part.name: part for part in parts}
    for name, outcome in sorted(each(job, "read", items, read_part)):
        counts = Counts.of(outcome["counts"])
        total.counts.add(counts)
        read_rows[items[name].source] += counts.read
        total.labels = {**outcome["labels"], **total.labels}
        total.text_bytes += outcome["text_bytes"]
        if items[name].source in rules:
            own = total.patterns[items[name].source]
            own |= {int(key): votes for key, votes in outcome["patterns"].items()}
    for name, source in sources.items():
        if not read_rows[name] and source.weak_labels is None:
            raise UserError(f"corpora.sources.{name}: no rows in {source.path or source.dataset!r}")
    return total


def _labelled(
    documents: Iterator[Document], source: Source, key: str, task: TaskRows, counts: Counts
) -> Iterator[tuple[Document, tuple[str, ...]]]:
    """Documents with their labels by the source's map; what is mapped to null is counted."""
    for document in documents:
        if source.weak_labels is not None or not task.has_label:
            yield document, ()
            continue
        assert document.label is not None
        refused = refusal_of_labels(document.label, source.label_map, key, task.several_labels)
        if refused is not None:
            raise UserError(f"{document.where}: {refused}")
        labels = mapped(document.label, source.label_map)
        if labels is None:
            assert document.text is not None
            counts.drop(MAPPED_TO_NULL, text_key(document.text), document.text)
        else:
            yield document, labels


class _Found:
    """Labels and patterns of a part, by their hashes."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.patterns: dict[int, list[int]] = {}
        self.has_groups = False
        self._hashes: dict[str, int] = {}

    def records(
        self,
        rows: list[tuple[Document, tuple[str, ...]]],
        keys: document_file.Keys,
        part: int,
        start: int,
    ) -> tuple[Any, Any]:
        """ROW and LABEL records of rows, which stand in the part from `start` on."""
        records = np.zeros(len(rows), ROW)
        records["key"], records["part"] = keys, part
        records["row"] = np.arange(start, start + len(rows))
        groups = [document.group for document, _ in rows]
        if any(group is not None for group in groups):
            self.has_groups = True
            records["group"] = [0 if group is None else text_key(group) or 1 for group in groups]
        owners = np.repeat(np.arange(len(rows)), [len(labels) for _, labels in rows])
        labels = np.empty(len(owners), LABEL)
        for field in ("key", "part", "row"):
            labels[field] = records[field][owners]
        hashes = [self._hash(label, document.where) for document, own in rows for label in own]
        labels["label"] = np.array(hashes, np.uint64)
        return records, labels

    def patterns_of(self, source: str, votes: weak.Votes) -> Any:
        """(rows,): the hash of each row's votes."""
        distinct, places = np.unique(votes, axis=0, return_inverse=True)
        hashes = [text_key(f"{source}: {pattern}") for pattern in distinct.tolist()]
        self.patterns |= dict(zip(hashes, distinct.tolist(), strict=True))
        return np.array(hashes, np.uint64)[places.reshape(-1)]

    def _hash(self, label: str, where: str) -> int:
        if label not in self._hashes:
            self._hashes[label] = text_key(label)
            self.labels[label] = where
        return self._hashes[label]
