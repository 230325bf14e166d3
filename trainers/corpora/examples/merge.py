"""The step `merge`: a bucket of keys at a time, all copies of a text become one row.

Its label is that of a held-out file before others, and of people before rules; where a row may have
several, it has those of all such copies. Texts that else have two labels are dropped, and so are
those whose copies differ in what a task has of them besides. A row has the group of one of its
copies, and is linked to the groups of all. Its source and its slices are those of one copy whose
label it has: the first by its group, then in the order of the recipe and of the source's rows.

`documents/BUCKET.arrow` has the rows in the order of their keys. Buckets are ranges of keys, so
their order is that of all keys.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cluster.runs.pipeline import StageJob
from trainers.corpora.cleaning.documents import EXACT, Counts, text_key
from trainers.corpora.duplicates.components import both_ways
from trainers.corpora.examples.read_rows import bucket_rows
from trainers.corpora.examples.splits import SHARES, STRENGTH
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.examples.weak import Labelling
from trainers.corpora.reading.config import SOURCE, Source
from trainers.corpora.steps import near_dedup
from trainers.corpora.steps.clean_parts import DOCUMENTS, LEFT, SourcePart
from trainers.corpora.steps.parallel import each
from trainers.corpora.tokens.pack import write_arrow

TWO_LABELS = "two labels"
GROUP_BIT = 1 << 62
"""Of the node that stands for a group, above those of all rows."""
BATCH_ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class Origin:
    """What the source of a row says of it."""

    source: str
    placement: int
    """Place in STRENGTH."""
    rank: tuple[bool, int]
    """Whose labels win: the highest."""
    labelling: Labelling | None
    """Of a source with weak labels."""

    @classmethod
    def of(cls, name: str, source: Source, labelling: Labelling | None) -> "Origin":
        placement = STRENGTH.index(source.placement)
        held_out = max(placement, STRENGTH.index(SHARES))
        return cls(name, placement, (source.weak_labels is None, held_out), labelling)


class Copy(NamedTuple):
    """A row as it was read; others may have the same text."""

    place: int
    """In its bucket."""
    origin: Origin
    labels: Sequence[str]
    group: str | None
    votes: str | None
    values: Mapping[str, Any]
    """Its annotations; none where no other row has the text."""
    unlabelled: str | None = None
    """Why rules give it no label, if so."""


@dataclasses.dataclass
class Merged:
    """The rows of a bucket, each text once, and what became of the others."""

    places: list[int] = dataclasses.field(default_factory=list)
    """Of each row, the place of the copy whose text and group stay."""
    value_places: list[int] = dataclasses.field(default_factory=list)
    """Of each row, the place of the copy whose values, source and slices stay: one whose labels
    do."""
    labels: list[list[str]] = dataclasses.field(default_factory=list)
    placements: list[int] = dataclasses.field(default_factory=list)
    links: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """The number of a row, and a group of one of its copies."""
    dropped: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """A reason, and the place of a copy."""
    gold: dict[str, dict[str, dict[str, int]]] = dataclasses.field(default_factory=dict)
    """By source and votes: texts by the label that people gave them."""

    def add(self, copies: Sequence[Copy], one_label: bool) -> None:
        """Adds all copies of one text, which can have `one_label` or any number of them."""
        alive = [copy for copy in copies if copy.unlabelled is None]
        self.dropped += [(copy.unlabelled, copy.place) for copy in copies if copy.unlabelled]
        self.dropped += [(EXACT, copy.place) for copy in alive[1:]]
        if not alive:
            return
        rank = max(copy.origin.rank for copy in alive)
        best = [copy for copy in alive if copy.origin.rank == rank]
        labels = sorted({label for copy in best for label in copy.labels})
        conflict = TWO_LABELS if one_label and len(labels) > 1 else _difference(best)
        if conflict is not None:
            self.dropped.append((conflict, alive[0].place))
            return
        is_of_people, _ = rank
        if is_of_people and len(labels) == 1:
            for source, votes in {(c.origin.source, c.votes) for c in copies if c.votes}:
                counts = self.gold.setdefault(source, {}).setdefault(votes, {})
                counts[labels[0]] = counts.get(labels[0], 0) + 1
        row = len(self.places)
        self.links += [(row, group) for group in {c.group for c in alive if c.group is not None}]
        self.places.append(alive[0].place)
        self.value_places.append(best[0].place)
        self.labels.append(labels)
        self.placements.append(max(copy.origin.placement for copy in alive))


def _difference(copies: Sequence[Copy]) -> str | None:
    """What copies of one text have that is not the same in all, as a reason to drop them."""
    first = copies[0].values
    roles = [role for role in first if any(copy.values[role] != first[role] for copy in copies)]
    return f"copies differ in {' and '.join(roles)}" if roles else None


def merge(
    job: StageJob,
    buckets: Mapping[str, range],
    parts: Sequence[SourcePart],
    origins: Mapping[str, Origin],
    task: TaskRows,
) -> Iterator[tuple[str, Any]]:
    """Merges all buckets; of each `counts`, how many `rows` are left, their `labels`, whether any
    are `linked` by groups, and `gold`. `origins` are by source."""
    draft = job.draft
    of_parts = [origins[part.source] for part in parts]

    def merge_bucket(name: str, bucket: range) -> Any:
        rows = bucket_rows(draft, bucket, task)
        merged = Merged()
        one_label = task.has_label and not task.several_labels
        for copies in _copies(rows, of_parts, task):
            merged.add(copies, one_label)
        with draft.working(DOCUMENTS) as folder:
            write_arrow(_documents(rows, merged, of_parts), folder / f"{name}.arrow", BATCH_ROWS)
        with draft.working(LEFT) as folder:
            np.save(folder / f"{name}.npy", np.arange(len(merged.places)))
        first = int(name) << near_dedup.PLACE_BITS
        if merged.links:
            edges = [(first + row, GROUP_BIT | text_key(group) >> 2) for row, group in merged.links]
            near_dedup.deal_edges(
                draft, near_dedup.edges_folder(0), f"g{name}", both_ways(np.array(edges))
            )
        counts = Counts()
        for reason, place in merged.dropped:
            counts.drop(reason, rows["key"][place].as_py(), rows["text"][place].as_py())
        return {
            "counts": counts.document(),
            "rows": len(merged.places),
            "labels": sorted(set(itertools.chain.from_iterable(merged.labels))),
            "linked": bool(merged.links),
            "gold": merged.gold,
        }

    return each(job, "merge", buckets, merge_bucket, "parts rid of equal texts")


def _copies(rows: pa.Table, origins: Sequence[Origin], task: TaskRows) -> Iterator[list[Copy]]:
    """All copies of each text, text by text. `origins` are by part."""
    columns = [rows[name].to_pylist() for name in ("key", "part", "labels", "group", "votes")]
    numbered = zip(itertools.count(), *columns, strict=False)
    for _, same_text in itertools.groupby(numbered, lambda row: row[1]):
        same = [*same_text]
        copies = []
        for place, _, part, labels, group, votes in same:
            origin = origins[part]
            why = None
            if origin.labelling is not None:
                why = origin.labelling.unlabelled.get(votes)
                labels = [] if why else [origin.labelling.labels[votes]]
            values = task.annotations(rows["values"][place].as_py()) if len(same) > 1 else {}
            copies.append(Copy(place, origin, labels, group, votes, values, why))
        yield copies


def _documents(rows: pa.Table, merged: Merged, origins: Sequence[Origin]) -> pa.Table:
    """`origins` are by part."""
    kept = rows.select(["key", "text", "group"]).take(pa.array(merged.places, pa.int64()))
    of_values = rows.select(["values", "slices", "part"]).take(
        pa.array(merged.value_places, pa.int64())
    )
    columns = {
        "values": of_values["values"],
        SOURCE: pa.array([origins[p].source for p in of_values["part"].to_pylist()], pa.string()),
        "slices": of_values["slices"],
        "labels": pa.array(merged.labels, pa.list_(pa.string())),
        "placement": pa.array(merged.placements, pa.int8()),
    }
    for name, column in columns.items():
        kept = kept.append_column(name, column)
    return kept
