"""The stage `examples`: rows with labels of all sources, each text once, split before anything
learns from them.

    read      a part of a source: its rows, cleaned              read_parts.py
    votes     a bucket of keys: what rules say of texts          merge.py
    merge     a bucket: all copies of a text are one row
    match ... near duplicates, and rows linked by groups         steps/near_dedup.py
    (here)    the split of every row                             splits.py
    passages, quotes, write   a bucket: its rows by split        write_splits.py

Makes `train.arrow`, `validation.arrow`, `test.arrow` with `id`, `text`, `label` (a name, or a list
of names where the task takes several), `group` and the columns that the task has besides, in the
order of the ids; and `labels.json`, all labels, sorted. They are the same for any number of tasks
and files.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Progress
from cluster.store.artifacts import REPORT, Artifact
from trainers.corpora.cleaning.documents import Counts, text_key
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Corpora, no_examples, rows_of
from trainers.corpora.examples import weak
from trainers.corpora.examples.merge import GROUP_BIT, MERGED, Decided, OfPart, count_votes, merge
from trainers.corpora.examples.read_parts import Read, read_parts
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
from trainers.corpora.examples.write_splits import Places, drop_quotes, save_fates, write_splits
from trainers.corpora.reading.config import EVALUATION_SETS, Source
from trainers.corpora.reading.readers import every_text
from trainers.corpora.report.examples import labelled_page
from trainers.corpora.steps import near_dedup
from trainers.corpora.steps.clean_parts import parts_of
from trainers.corpora.steps.shuffle import DOCUMENTS_A_BUCKET, buckets, collect
from trainers.corpora.tokens.pack import read_arrow

LABELS = "labels.json"
BUCKET_BYTES = 32_000_000
"""Of texts, in UTF-8: a bucket has fewer rows where they are long."""
BATCH_ROWS = 4096


def run(job: StageJob) -> dict[str, Any]:
    corpora: Corpora = job.recipe.corpora
    task, sources = rows_of(job.recipe), corpora.example_sources(job.recipe)
    if not sources:
        raise UserError(f"corpora.sources: {no_examples(task)}")
    made = merged_rows(job, sources, task)
    counts, labels, places, rows = made.counts, made.labels, made.places, made.rows
    fates = split(rows, corpora.split, job.recipe.seed)
    if corpora.decontaminate is not None:
        drop_quotes(job, places, rows, fates, further_evaluation_texts(corpora))
    times = repeats(rows, fates == SPLITS.index("train"), corpora.balance)
    save_fates(job.draft, places, fates, times)
    counts.add(write_splits(job, places, rows, labels, task))
    counts.dropped = +counts.dropped
    counts.kept = int((fates < ELSEWHERE).sum())
    sizes = {name: int(times[fates == number].sum()) for number, name in enumerate(SPLITS)}
    _refuse_empty(sizes, counts)
    once = np.ones(len(rows), np.int64)
    report = {
        **counts.report(),
        "labels": by_label(rows, fates, once, labels),
        "weak_labels": made.weak_labels,
    }
    if corpora.balance != "none":
        report["balanced"] = by_label(rows, fates, times, labels)
    whole = {**report, **sizes}
    with job.draft.folder() as folder:
        document = json.dumps(list(report["labels"]), ensure_ascii=False)
        (folder / LABELS).write_text(document, "utf-8")
        page = labelled_page({**whole, "samples": counts.shown_samples()}, job.draft.id)
        (folder / REPORT).write_text(page, "utf-8")
    _tell(job.progress, counts, sizes, report)
    return whole


@dataclasses.dataclass(frozen=True)
class MergedRows:
    """All rows of the sources, each text once."""

    counts: Counts
    labels: list[str]
    """Sorted; a row's labels are numbers in this list."""
    rows: Rows
    places: Places
    weak_labels: dict[str, Any]
    """A report of every source with such."""


def merged_rows(job: StageJob, sources: Mapping[str, Source], task: TaskRows) -> MergedRows:
    """Reads the sources. Raises UserError for labels that cannot be learned."""
    parts = parts_of(job, sources)
    read = read_parts(job, parts, sources, task)
    counts = read.counts
    row_count = counts.read - counts.dropped.total()
    row_bytes = max(1, read.text_bytes // max(1, row_count))
    in_buckets = buckets(row_count, min(DOCUMENTS_A_BUCKET, max(1, BUCKET_BYTES // row_bytes)))
    of_part = OfPart.of(parts, sources)
    decided, labellings = _decided(job, in_buckets, of_part, sources, read)
    outcomes = dict(sorted(merge(job, in_buckets, of_part, task, decided)))
    names = {text_key(label): label for label in read.labels}
    labels = sorted({names[int(one)] for found in outcomes.values() for one in found["labels"]})
    task.refuse_labels({label: read.labels[label] for label in labels})
    for found in outcomes.values():
        counts.add(Counts.of(found["counts"]))
    places = Places.of({name: found["rows"] for name, found in outcomes.items()})
    linked = any(found["linked"] for found in outcomes.values())
    rows = _rows(job, places, labels, linked)
    return MergedRows(
        counts, labels, rows, places, _weak_reports(sources, labellings, outcomes.values(), names)
    )


def read_split(examples: Artifact, split: str, most: int | None = None) -> dict[str, list[Any]]:
    """Columns of its rows by name, or of at most so many, evenly spread."""
    table = read_arrow(examples.path / f"{split}.arrow")
    if most is not None and len(table) > most:
        table = table.take(np.linspace(0, len(table) - 1, most).astype(np.int64))
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def batches(examples: Artifact, split: str) -> Iterator[list[dict[str, Any]]]:
    """Its rows, some at a time."""
    for batch in read_arrow(examples.path / f"{split}.arrow").to_batches(max_chunksize=BATCH_ROWS):
        yield batch.to_pylist()


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


def _decided(
    job: StageJob,
    in_buckets: Mapping[str, range],
    of_part: OfPart,
    sources: Mapping[str, Source],
    read: Read,
) -> tuple[Decided, dict[str, tuple[weak.Labelling, list[int]]]]:
    """What all rules come to; and by source how they did, with the hashes of the votes."""
    labels: dict[int, int] = {}
    why: dict[int, str] = {}
    labellings = {}
    if read.patterns:
        counted = count_votes(job, in_buckets, of_part, list(sources))
        for name, patterns in read.patterns.items():
            settings = sources[name].weak_labels
            assert settings is not None
            hashes = sorted(counted.get(name, {}), key=patterns.__getitem__)
            found = weak.labelling(
                np.array([patterns[one] for one in hashes], np.int64).reshape(
                    -1, len(settings.functions)
                ),
                np.array([counted[name][one] for one in hashes], np.int64),
                settings,
            )
            labellings[name] = found, hashes
            for one, label, reason in zip(hashes, found.labels, found.open, strict=True):
                if label is None:
                    why[one] = reason or ""
                else:
                    labels[one] = text_key(label)
                    read.labels.setdefault(label, f"corpora.sources.{name}.weak_labels")
    return Decided(labels, why), labellings


def _rows(job: StageJob, places: Places, labels: list[str], linked: bool) -> Rows:
    """All rows, and which of them are in one set: linked by groups, or alike."""
    numbers = {text_key(label): number for number, label in enumerate(labels)}
    hashes = np.array(sorted(numbers), np.uint64)
    numbered = np.array([numbers[one] for one in hashes.tolist()], np.int32)
    found: dict[str, list[Any]] = {"keys": [], "placements": [], "labels": [], "ends": []}
    end = 0
    for name in places.of_bucket:
        with np.load(job.draft.worked(MERGED) / f"{name}.npz") as own:
            found["keys"].append(own["keys"])
            found["placements"].append(own["placements"])
            of_rows = np.repeat(np.arange(len(own["ends"])), np.diff(own["ends"], prepend=0))
            own_labels = numbered[np.searchsorted(hashes, own["labels"])]
            found["labels"].append(own_labels[np.lexsort((own_labels, of_rows))])
            found["ends"].append(own["ends"] + end)
            end += len(own["labels"])
    arrays = {name: np.concatenate(each) for name, each in found.items()}
    sets = np.arange(len(arrays["keys"]))
    similarity = job.recipe.corpora.deduplicate.similarity
    if similarity is not None:
        near_dedup.match(job, list(places.of_bucket), len(sets), near_dedup.LEFT, similarity)
    if linked or similarity is not None:
        starts = np.array([own.start for own in places.of_bucket.values()])
        in_buckets = buckets(len(sets))
        folder = near_dedup.clusters(job, in_buckets)
        for at in in_buckets.values():
            edges = collect(job.draft.worked(folder), at, near_dedup.NO_EDGES)
            edges = edges[(edges[:, 0] > edges[:, 1]) & (edges[:, 0] < GROUP_BIT)]
            place = starts[edges >> near_dedup.PLACE_BITS] + (
                edges & ((1 << near_dedup.PLACE_BITS) - 1)
            )
            sets[place[:, 0]] = place[:, 1]
    return Rows(arrays["keys"], arrays["placements"], sets, arrays["labels"], arrays["ends"])


def _weak_reports(
    sources: Mapping[str, Source],
    labellings: Mapping[str, tuple[weak.Labelling, list[int]]],
    outcomes: Any,
    names: Mapping[int, str],
) -> dict[str, Any]:
    gold: dict[int, dict[str, int]] = {}
    pairs = itertools.chain.from_iterable(found["gold"].items() for found in outcomes)
    for votes, labels in pairs:
        of_votes = gold.setdefault(int(votes), {})
        for label, count in labels.items():
            of_votes[names[int(label)]] = of_votes.get(names[int(label)], 0) + count
    reports = {}
    for name, (found, hashes) in labellings.items():
        settings = sources[name].weak_labels
        assert settings is not None
        known = {place: gold[one] for place, one in enumerate(hashes) if one in gold}
        reports[name] = weak.report(settings, found, known)
    return reports


def _refuse_empty(sizes: Mapping[str, int], counts: Counts) -> None:
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        raise UserError(
            f"corpora.split: no labelled documents in {', '.join(empty)} of {counts.kept:,}; of "
            f"{counts.read:,} read, dropped: {_dropped(counts)}; give more documents or larger "
            "shares, or a source of that `split`"
        )


def _dropped(counts: Counts) -> str:
    reasons = sorted(counts.dropped.items())
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "none"


def _tell(
    progress: Progress, counts: Counts, sizes: Mapping[str, int], report: Mapping[str, Any]
) -> None:
    progress.line(
        f"{counts.read:,} labelled documents, dropped: {_dropped(counts)}; "
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
    for line in rare_labels(report["labels"]):
        progress.line(line)
