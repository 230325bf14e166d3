"""The stage `examples`: labelled documents, deduplicated before they are split.

Makes `train.arrow`, `validation.arrow`, `test.arrow` with `text`, `label` (its name) and, where the
sources have groups, `group`; and `labels.json`, all their labels, sorted.
"""

import collections
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cluster.artifacts import REPORT, Artifact
from cluster.errors import UserError
from cluster.pipeline import StageJob
from cluster.progress import Progress
from cluster.recipe import Recipe
from trainers.corpora.cleaning.clean import normalize
from trainers.corpora.cleaning.documents import CONTAMINATED, HELD_OUT, Counts, text_key
from trainers.corpora.config import EVALUATION_SETS, Corpora
from trainers.corpora.duplicates import minhash
from trainers.corpora.duplicates.contamination import Passages, boilerplate
from trainers.corpora.labels.labelled import labelled
from trainers.corpora.labels.splits import SPLITS, Example, balanced, rare_labels, split
from trainers.corpora.reading.readers import every_text
from trainers.corpora.report.labelled import labelled_page
from trainers.corpora.tokens.pack import read_arrow, write_arrow

LABELS = "labels.json"
ELSEWHERE = "group or near duplicate is in another split"


def run(job: StageJob) -> dict[str, Any]:
    corpora: Corpora = job.recipe.corpora
    counts = Counts()
    found, weak_labels = labelled(corpora, counts, job.progress.line)
    if job.recipe.finetune:
        # The last of a label in the order of keys: any will do.
        _refuse({example.label: example.where for example in found}, job.recipe.finetune.labels)
    splits = _split(found, corpora, job.recipe.seed, counts)
    report = {**counts.report(), "labels": _by_label(splits), "weak_labels": weak_labels}
    if corpora.balance != "none":
        train = splits["train"]
        places = balanced([example.label for example in train], corpora.balance)
        splits["train"] = [train[place] for place in places]
        report["balanced"] = _by_label(splits)
    with job.draft.folder() as folder:
        for name, examples in splits.items():
            write_arrow(_table(examples, corpora), folder / f"{name}.arrow")
        labels = json.dumps(list(report["labels"]), ensure_ascii=False)
        (folder / LABELS).write_text(labels, "utf-8")
    sizes = {name: len(examples) for name, examples in splits.items()}
    _tell(job.progress, counts, sizes, weak_labels)
    for line in rare_labels(report["labels"]):
        job.progress.line(line)
    whole = {**report, **sizes}
    with job.draft.folder() as folder:
        page = labelled_page({**whole, "samples": counts.shown_samples()}, job.draft.id)
        (folder / REPORT).write_text(page, "utf-8")
    return whole


def read_split(examples: Artifact, split: str) -> tuple[list[str], list[str]]:
    """Texts and the names of their labels."""
    table = read_arrow(examples.path / f"{split}.arrow")
    return table["text"].to_pylist(), table["label"].to_pylist()


def held_out_texts(examples: Artifact) -> Iterator[str]:
    """The texts for validation and test, which nothing may be trained on."""
    for name in ("validation", "test"):
        for batch in read_arrow(examples.path / f"{name}.arrow").to_batches(max_chunksize=4096):
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


def refuse_labels(recipe: Recipe, examples: Artifact) -> None:
    """Raises UserError if fine-tuning cannot use the labels of these examples."""
    if recipe.finetune:
        label_order(examples, recipe.finetune.labels)


def label_order(examples: Artifact, wanted: Sequence[str] | None) -> list[str]:
    """The labels of a task in the order of their numbers: those wanted, or those found. Raises
    UserError for a label that is not wanted, and for fewer than two."""
    found: list[str] = json.loads((examples.path / LABELS).read_text("utf-8"))
    _refuse(dict.fromkeys(found, examples.id), wanted)
    return list(wanted or found)


def _refuse(found: Mapping[str, str], wanted: Sequence[str] | None) -> None:
    """Raises UserError for labels that no classifier can be made of. `found` says where."""
    if len(found) < 2:
        raise UserError(
            "corpora.sources: classification needs two labels or more, found "
            f"{list(found) or 'no documents'}"
        )
    for label, where in found.items():
        if wanted is not None and label not in wanted:
            raise UserError(
                f"{where}: label {label!r} is not in finetune.labels ({', '.join(wanted)}); mend "
                "the file or the list"
            )


def _split(
    found: Sequence[Example], corpora: Corpora, seed: int, counts: Counts
) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    similarity = corpora.deduplicate.similarity
    texts = [example.text for example in found] if similarity is not None else []
    alike = minhash.alike_among(texts, similarity or 1.0)
    for example, name in zip(found, split(found, corpora.split, seed, alike), strict=True):
        if name is None:
            counts.kept -= 1
            counts.drop(ELSEWHERE, example.key, example.text)
        else:
            splits[name].append(example)
    if corpora.decontaminate is not None:
        splits["train"] = _uncontaminated(splits, corpora, counts)
    empty = [name for name in SPLITS if not splits[name]]
    if empty:
        raise UserError(
            f"corpora.split: no labelled documents in {', '.join(empty)} of {counts.kept:,}; of "
            f"{counts.read:,} read, dropped: {_dropped(counts)}; give more documents or larger "
            "shares, or a source of that `split`"
        )
    return splits


def _uncontaminated(
    splits: Mapping[str, Sequence[Example]], corpora: Corpora, counts: Counts
) -> list[Example]:
    """What may train: no text that evaluation has too, nor one that quotes it."""
    further = further_evaluation_texts(corpora)
    held_out = [example.text for name in ("validation", "test") for example in splits[name]]
    keys, passages = set(map(text_key, further)), Passages.of([*held_out, *further])
    train = splits["train"]
    hits = passages.hits((example.text for example in train), range(len(train)))
    is_boilerplate = boilerplate(passages.documents_with(hits), len(train))
    quoting = set(passages.quoting(hits, is_boilerplate).tolist())
    kept = []
    for row, example in enumerate(train):
        if example.key in keys or row in quoting:
            counts.kept -= 1
            reason = HELD_OUT if example.key in keys else CONTAMINATED
            counts.drop(reason, example.key, example.text)
        else:
            kept.append(example)
    return kept


def _by_label(splits: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, int]]:
    """Documents of every label in each split."""
    found = {
        name: collections.Counter(example.label for example in examples)
        for name, examples in splits.items()
    }
    labels = sorted({label for counter in found.values() for label in counter})
    return {label: {name: found[name][label] for name in SPLITS} for label in labels}


def _table(examples: Sequence[Example], corpora: Corpora) -> pa.Table:
    columns = {
        "text": pa.array([example.text for example in examples], pa.large_string()),
        "label": pa.array([example.label for example in examples], pa.string()),
    }
    if any(source.group_column for source in corpora.sources.values()):
        # Of a text that several groups share, one of them: they are all in this split.
        groups = [min(example.groups, default=None) for example in examples]
        columns["group"] = pa.array(groups, pa.string())
    return pa.table(columns)


def _dropped(counts: Counts) -> str:
    reasons = sorted(counts.dropped.items())
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "none"


def _tell(
    progress: Progress, counts: Counts, sizes: Mapping[str, int], weak_labels: Mapping[str, Any]
) -> None:
    progress.line(
        f"{counts.read:,} labelled documents, dropped: {_dropped(counts)}; "
        + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    )
    for source, figures in weak_labels.items():
        line = f"{source}: weak labels for {figures['coverage']:.1%}"
        if "accuracy" in figures:
            line += (
                f"; of {figures['accuracy_documents']:,} that are labelled elsewhere, "
                f"{figures['accuracy']:.1%} agree"
            )
        progress.line(line)
