"""The stage `examples`: rows with labels of all sources, each text once, split before anything
learns from them.

    read      a part of a source: its rows, cleaned              read_rows.py
    merge     a bucket: all copies of a text are one row         merge.py
    match ... near duplicates, and rows linked by groups         steps/near_dedup.py
    (here)    the split of every row                             splits.py
    passages, quotes, write   a bucket: its rows by split        write_splits.py

Makes `train.arrow`, `validation.arrow`, `test.arrow` with `id`, `text`, `label` (a name, or a list
of names where the task takes several), `group`, `source`, the columns that the task has besides
and those that sources keep as `slices`, in the order of the ids; and `labels.json`, all labels,
also those in such columns, sorted. They are the same for any number of tasks and files.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Progress
from cluster.store.artifacts import REPORT, Artifact
from trainers.corpora.cleaning.documents import CONTAMINATED, Counts
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Corpora, no_examples, rows_of
from trainers.corpora.examples import weak
from trainers.corpora.examples.merge import GROUP_BIT, Origin, merge
from trainers.corpora.examples.read_rows import Read, read_rows
from trainers.corpora.examples.splits import (
    ELSEWHERE,
    SPLITS,
    Rows,
    by_label,
    rare_labels,
    repeats,
    split,
)
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.examples.write_splits import Buckets, drop_quotes, write_splits
from trainers.corpora.label_checks import absent_labels
from trainers.corpora.reading.config import EVALUATION_SETS, Source
from trainers.corpora.reading.readers import every_text
from trainers.corpora.report.examples import labelled_page
from trainers.corpora.steps import near_dedup
from trainers.corpora.steps.clean_parts import DOCUMENTS, parts_of
from trainers.corpora.steps.shuffle import DOCUMENTS_A_BUCKET, buckets, collect
from trainers.corpora.tokens.pack import read_arrow

LABELS = "labels.json"
BUCKET_BYTES = 32_000_000
"""A bucket has fewer rows than others where they are long."""
BATCH_ROWS = 4096


def run(job: StageJob) -> dict[str, Any]:
    corpora: Corpora = job.recipe.corpora
    task, sources = rows_of(job.recipe), corpora.example_sources(job.recipe)
    if not sources:
        raise UserError(f"corpora.sources: {no_examples(task)}")
    merged = merged_rows(job, sources, task)
    counts, labels, rows = merged.counts, merged.labels, merged.rows
    fates = split(rows, corpora.split, job.recipe.seed)
    if corpora.decontaminate is not None:
        drop_quotes(job, merged.buckets, rows, fates, further_evaluation_texts(corpora))
    times = repeats(rows, fates == SPLITS.index("train"), corpora.balance)
    counts.add(write_splits(job, merged.buckets, fates, times, task))
    counts.dropped = +counts.dropped
    counts.kept = int((fates < ELSEWHERE).sum())
    sizes = {name: int(times[fates == number].sum()) for number, name in enumerate(SPLITS)}
    _refuse_empty(sizes, counts, task)
    report = {
        **counts.report(),
        "labels": by_label(rows, fates, np.ones(len(rows), np.int64), labels),
        "weak_labels": merged.weak_labels,
        "noted": dict(sorted(counts.noted.items())),
    }
    if corpora.balance != "none":
        report["balanced"] = by_label(rows, fates, times, labels)
    whole = {**report, **sizes}
    with job.draft.folder() as folder:
        document = json.dumps(list(report["labels"]), ensure_ascii=False)
        (folder / LABELS).write_text(document, "utf-8")
        page = labelled_page({**whole, "samples": counts.shown_samples()}, job.draft.id)
        (folder / REPORT).write_text(page, "utf-8")
    _tell(job.progress, counts, sizes, report, task)
    return whole


@dataclasses.dataclass(frozen=True)
class MergedRows:
    """All rows of the sources, each text once."""

    counts: Counts
    labels: list[str]
    """Sorted; a row's labels are numbers in this list."""
    rows: Rows
    buckets: Buckets
    weak_labels: dict[str, Any]
    """A report of every source with such."""


def merged_rows(job: StageJob, sources: Mapping[str, Source], task: TaskRows) -> MergedRows:
    """Reads the sources. Raises UserError for labels that cannot be learned."""
    parts = parts_of(job, sources)
    read = read_rows(job, parts, sources, task)
    labellings = _labellings(sources, read)
    origins = {
        name: Origin.of(name, source, labellings.get(name)) for name, source in sources.items()
    }
    row_count = read.counts.read - read.counts.dropped.total()
    large = read.bytes * DOCUMENTS_A_BUCKET // BUCKET_BYTES
    in_buckets = buckets(max(row_count, large), DOCUMENTS_A_BUCKET)
    outcomes = dict(sorted(merge(job, in_buckets, parts, origins, task)))
    labels = sorted({label for outcome in outcomes.values() for label in outcome["labels"]})
    task.refuse_labels({label: read.labels[label] for label in labels})
    for outcome in outcomes.values():
        read.counts.add(Counts.of(outcome["counts"]))
    ends = np.cumsum([0, *(outcome["rows"] for outcome in outcomes.values())]).tolist()
    places = {name: slice(ends[n], ends[n + 1]) for n, name in enumerate(outcomes)}
    rows = _rows(job, places, labels, any(outcome["linked"] for outcome in outcomes.values()))
    reports = {
        name: weak.report(
            source.weak_labels,
            read.votes[name],
            labellings[name],
            _gold(outcome["gold"].get(name, {}) for outcome in outcomes.values()),
        )
        for name, source in sources.items()
        if source.weak_labels is not None
    }
    return MergedRows(read.counts, labels, rows, places, reports)


def read_split(examples: Artifact, split: str, most: int | None = None) -> dict[str, list[Any]]:
    """Columns of its rows by name, or of at most so many, evenly spread."""
    table = read_arrow(examples.path / f"{split}.arrow")
    if most is not None and len(table) > most:
        table = table.take(np.linspace(0, len(table) - 1, most).astype(np.int64))
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def rows_in(examples: Artifact, split: str) -> list[dict[str, Any]]:
    """Its rows, in their order."""
    rows: list[dict[str, Any]] = read_arrow(examples.path / f"{split}.arrow").to_pylist()
    return rows


def held_out_texts(examples: Artifact) -> Iterator[str]:
    """The texts for validation and test, which nothing may be trained on."""
    for name in ("validation", "test"):
        table = read_arrow(examples.path / f"{name}.arrow")
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            yield from batch["text"].to_pylist()


def further_evaluation_texts(corpora: Corpora) -> list[str]:
    """Those of `decontaminate.files`, cleaned."""
    if corpora.decontaminate is None:
        return []
    return [
        normalize(text, corpora.clean)
        for path in corpora.decontaminate.files
        for text in every_text(path, EVALUATION_SETS)
    ]


def refuse_examples(recipe: Recipe, examples: Artifact) -> None:
    """Raises UserError if fine-tuning cannot use these examples."""
    if recipe.finetune:
        recipe.finetune.refuse_examples(examples)


def _labellings(sources: Mapping[str, Source], read: Read) -> dict[str, weak.Labelling]:
    """What all rules come to, by source; adds their labels to those that were read."""
    found = {}
    for name, counts in read.votes.items():
        settings = sources[name].weak_labels
        assert settings is not None
        found[name] = weak.labelling(counts, settings)
        for label in found[name].labels.values():
            read.labels.setdefault(label, f"corpora.sources.{name}.weak_labels")
    return found


def _gold(of_buckets: Iterator[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for of_bucket in of_buckets:
        for votes, labels in of_bucket.items():
            of_votes = total.setdefault(votes, {})
            for label, count in labels.items():
                of_votes[label] = of_votes.get(label, 0) + count
    return total


def _rows(job: StageJob, places: Buckets, labels: Sequence[str], linked: bool) -> Rows:
    """What the splits follow from: the columns of all buckets but their texts."""
    keys, placements, numbers, counts = [], [], [], []
    known = pa.array(labels, pa.string())
    for name in places:
        table = read_arrow(job.draft.worked(DOCUMENTS) / f"{name}.arrow")
        of_rows = table["labels"].combine_chunks()
        keys.append(table["key"].to_numpy())
        placements.append(table["placement"].to_numpy())
        numbers.append(pc.index_in(pc.list_flatten(of_rows), value_set=known).to_numpy())
        counts.append(pc.list_value_length(of_rows).to_numpy())
    return Rows(
        np.concatenate(keys),
        np.concatenate(placements),
        _sets(job, places, linked),
        np.concatenate(numbers),
        np.cumsum(np.concatenate(counts), dtype=np.int64),
    )


def _sets(job: StageJob, places: Buckets, linked: bool) -> Any:
    """(rows,): of those that must be in one split, since groups link them or they are alike, the
    place of the first."""
    starts = np.array([own.start for own in places.values()])
    count = max(own.stop for own in places.values())
    sets = np.arange(count)
    similarity = job.recipe.corpora.deduplicate.similarity
    if similarity is not None:
        near_dedup.match(job, list(places), count, similarity)
    elif not linked:
        return sets
    in_buckets = buckets(count)
    folder = near_dedup.clusters(job, in_buckets)
    for bucket in in_buckets.values():
        edges = collect(job.draft.worked(folder), bucket, near_dedup.NO_EDGES)
        edges = edges[(edges[:, 0] > edges[:, 1]) & (edges[:, 0] < GROUP_BIT)]
        in_bucket = edges & ((1 << near_dedup.PLACE_BITS) - 1)
        place = starts[edges >> near_dedup.PLACE_BITS] + in_bucket
        sets[place[:, 0]] = place[:, 1]
    return sets


def _refuse_empty(sizes: Mapping[str, int], counts: Counts, task: TaskRows) -> None:
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        remedy = (
            f"give more {task.noun} or larger shares, or a source of that `split`; those of one "
            "group, and answers to one prompt, are in one split: a column of another group parts "
            "them, named by `columns: {group: ...}`"
        )
        if counts.dropped and not counts.kept:
            remedy = "mend them, or change the keys of `corpora.clean` by which they are dropped"
        if counts.dropped[CONTAMINATED]:
            remedy += "; or keep what quotes an evaluation text, by `corpora.decontaminate: null`"
        raise UserError(
            f"corpora.split: no {task.noun} in {', '.join(empty)} of {counts.kept:,}; of "
            f"{counts.read:,} read, dropped: {_dropped(counts)}; {remedy}"
        )


def _dropped(counts: Counts) -> str:
    reasons = sorted(counts.dropped.items())
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "none"


def _tell(
    progress: Progress,
    counts: Counts,
    sizes: Mapping[str, int],
    report: Mapping[str, Any],
    task: TaskRows,
) -> None:
    progress.line(
        f"{counts.read:,} {task.noun}, dropped: {_dropped(counts)}; "
        + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    )
    for source, figures in report["weak_labels"].items():
        line = f"{source}: weak labels for {figures['coverage']:.1%}"
        if "accuracy" in figures:
            line += (
                f"; of {figures['accuracy_documents']:,} that are labelled elsewhere, "
                f"{figures['accuracy']:.1%} agree"
            )
        progress.line(line)
    if report["noted"]:
        noted = ", ".join(f"{what} {count:,}" for what, count in report["noted"].items())
        progress.line(f"in the documents read: {noted}")
    absent = absent_labels(task, report["labels"])
    if absent:
        progress.line(f"warning: of the labelled documents {absent}")
    for line in rare_labels(report["labels"]):
        progress.line(line)
