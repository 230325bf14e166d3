"""A labelled file as rows that a model is evaluated on: read and cleaned as its own examples were.

Each text counts once. What is dropped is counted by reason and written aside, and counted are also
labels that the model cannot give, which stay, as errors of it, and rows that it was trained on.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.recipe.loading import load_section
from cluster.recipe.section import identity, nearest
from cluster.store.artifacts import Artifact
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import SAMPLE_CHARACTERS, Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.config import taken
from trainers.corpora.examples.merge import Copy, Merged, Origin
from trainers.corpora.examples.read_rows import with_labels
from trainers.corpora.reading.config import GROUP, LABEL, TEXT, Source
from trainers.corpora.reading.readers import Document, absent_slice, first_columns, read
from trainers.corpora.reading.sources import content_hash, parts
from trainers.corpora.tokens.pack import read_arrow
from trainers.scoring.evaluation.records import labels_in
from trainers.scoring.source import name_of, refuse_missing
from trainers.tasks.spec import TaskSection

KEY = "--data"
CALLED = "say which is which by --set 'label_map={THEIRS: OURS}'"
SHOWN = 5
"""Labels and reasons in a line at most."""
DROPPED = "dropped.jsonl"
"""The rows of a file that were dropped: where each stands, why, and how its text begins."""
MOST_DROPPED = 10_000
"""Rows in that file: the first. The rest are counted alone."""

Row = dict[str, Any]


@dataclasses.dataclass
class FileCounts(Counts):
    """Counts that keep the first rows that are dropped, as DROPPED has them."""

    where: str = ""
    """Of the row at hand."""
    aside: list[Row] = dataclasses.field(default_factory=list)

    def drop(self, reason: str, key: int, text: str) -> None:
        super().drop(reason, key, text)
        if len(self.aside) < MOST_DROPPED:
            row = {"where": self.where, "reason": reason, "text": text[:SAMPLE_CHARACTERS]}
            self.aside.append(row)

    def write(self, folder: Path) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.aside)
        (folder / DROPPED).write_text("".join(lines), encoding="utf-8")


def inputs(source: Source) -> dict[str, Any]:
    """What an evaluation on the file depends on: its content, and how it is read. Raises UserError
    where it is not there."""
    refuse_missing(source, KEY)
    return {
        "source": {name: value for name, value in identity(source).items() if name != "path"},
        "content": content_hash(source, KEY),
    }


def rows(source: Source, settings: TaskSection, clean: Clean) -> tuple[list[Row], FileCounts]:
    """The rows of a file in its order, with what became of the others. Its slices are columns of
    the rows, too. Raises UserError where there are none."""
    source = _with_columns(source, settings)
    counts = FileCounts()
    numbers: dict[str, int] = {}
    documents = settings.checked(_numbered(source, settings, numbers, counts))
    # Here what cannot be read is told, however much it is.
    lenient = clean.model_copy(update={"max_unreadable": 1.0})
    kept = cleaned(documents, lenient, counts, too_short_or_long, settings.cleaned_document)
    found = _once_each(
        [*with_labels(kept, source, KEY, settings, counts)], source, settings, counts
    )
    counts.kept = len(found)
    counts.dropped = +counts.dropped
    if not found:
        shown = [text for texts in counts.shown_samples().values() for text in texts]
        raise UserError(
            f"{KEY} {name_of(source)}: no row to evaluate; of {counts.read:,} read, dropped: "
            f"{_listed(counts.dropped) or 'none'}{', such as ' + shown[0] if shown else ''}"
        )
    return [_row(document, settings, numbers[document.where]) for document in found], counts


def reading(settings: TaskSection, overrides: Sequence[str]) -> TaskSection:
    """A task as it reads the rows of a file, by `finetune.KEY=VALUE`. Raises UserError for keys
    that say anything else, since a model is as it is."""
    for override in overrides:
        key = override.partition("=")[0].strip().removeprefix("finetune.")
        if key.partition(".")[0] not in settings.row_keys:
            known = ", ".join(f"finetune.{name}" for name in settings.row_keys) or "none"
            raise UserError(
                f"--set finetune.{key}: the model is as it is; of the keys that say what rows are, "
                f"{settings.task} has {known}"
            )
    if not overrides:
        return settings
    known_keys = settings.model_dump(mode="json", exclude_unset=True)
    made: TaskSection = load_section("finetune", overrides, known_keys)
    return made


def with_label_map(source: Source, settings: TaskSection) -> tuple[Source, TaskSection]:
    """A file and a task, where labels are no column of rows but inside of values, as entities' are:
    the map of the file's labels is then the task's own."""
    names = source.label_map
    if names is None or settings.has_label or "label_map" not in settings.row_keys:
        return source, settings
    named = {label: name for label, name in names.items() if name is not None}
    of_task = settings.model_copy(update={"label_map": named})
    return source.model_copy(update={"label_map": None}), of_task


def _with_columns(source: Source, settings: TaskSection) -> Source:
    """The source with its columns named. Raises UserError where it has no rows of the task."""
    refuse_missing(source, KEY)
    if source.weak_labels is not None:
        raise UserError("--set weak_labels: labels of rules are none to evaluate a model by")
    if source.label_keys and not settings.has_label:
        key = source.label_keys[0]
        raise UserError(f"--set {key}: is about the label of a row, and its task has none")
    for role in settings.roles:
        if role in source.slices:
            raise UserError(f"--set slices: {taken(role)}")
    roles = {TEXT, LABEL, GROUP, *settings.roles}
    for role in source.columns.keys() - roles - {*source.slices}:
        raise UserError(
            f"--set columns.{role}: the model has no such column, it has "
            f"{', '.join(sorted(roles))}{nearest(role, roles)}; to slice by a column: --set "
            f"'slices=[{role}]'"
        )
    absent = absent_slice(source)
    if absent is not None:
        raise UserError(f"--set slices: {name_of(source)}: {absent}")
    known = first_columns(source, {*settings.roles, GROUP})
    also = settings.also_called(known)
    named = source.of_examples(known, settings.forms, also, settings.optional_roles)
    if named is not None:
        return named
    there = {*known, *also, *(role for role, column in source.columns.items() if column)}
    form = max(settings.forms, key=lambda form: len(there.intersection(form)))
    lacking = next((role for role in form if role not in there), LABEL)
    forms = ", or ".join(" and ".join(form) for form in settings.forms)
    has = ", ".join(known) or "none"
    raise UserError(
        f"{KEY} {name_of(source)}: a row needs {forms}, and the file has columns {has}; name "
        f"another by --set columns.{lacking}=COLUMN"
    )


def _numbered(
    source: Source, settings: TaskSection, numbers: dict[str, int], counts: FileCounts
) -> Iterator[Document]:
    """The documents of all parts; `numbers` gets the number of each, by where it stands."""
    documents = (
        document
        for part in parts(source, KEY)
        for document in read(source, part, settings.optional_roles)
    )
    for number, document in enumerate(documents, 1):
        numbers[document.where] = number
        counts.where = document.where
        yield document


def _once_each(
    documents: Sequence[Document], source: Source, settings: TaskSection, counts: FileCounts
) -> list[Document]:
    """Each text once, as examples have it: one that stands with two labels is dropped."""
    origin = Origin.of("data", source, None)
    by_text: dict[str, list[Copy]] = {}
    for place, document in enumerate(documents):
        labels = document.label or ()
        annotations = settings.annotations(document.values)
        copy = Copy(place, origin, labels, document.group, None, annotations)
        by_text.setdefault(document.text or "", []).append(copy)
    merged, one_label = Merged(), settings.has_label and not settings.several_labels
    for copies in by_text.values():
        merged.add(copies, one_label)
    for reason, place in merged.dropped:
        counts.where, text = documents[place].where, documents[place].text or ""
        counts.drop(reason, text_key(text), text)
    return [
        dataclasses.replace(documents[place], label=tuple(labels))
        for place, labels in zip(merged.places, merged.labels, strict=True)
    ]


def _row(document: Document, settings: TaskSection, number: int) -> Row:
    """As a row of examples, but for its id: which row of the file it is."""
    labels = [*(document.label or ())]
    label = {LABEL: labels if settings.several_labels else labels[0]} if settings.has_label else {}
    return {
        "id": str(number),
        TEXT: document.text,
        **label,
        GROUP: document.group,
        **document.values,
        **document.slices,
    }


def unknown_labels(
    rows: Sequence[Row],
    settings: TaskSection,
    known: Sequence[str] | None,
    source: Source,
    model: str,
) -> dict[str, int]:
    """Rows by each label of theirs that is none of the model's; `known` is None where its task has
    no such. Raises UserError where no row has a label that it knows, or any at all."""
    if known is None:
        return {}
    labels_of_rows = [_labels_of(row, settings) for row in rows]
    counts = collections.Counter(itertools.chain(*labels_of_rows))
    if not counts:
        raise UserError(
            f"{KEY} {name_of(source)}: none of its {len(rows):,} rows has a label that {model} "
            f"knows, {', '.join(known)}; if they have others, {CALLED}"
        )
    if counts.keys().isdisjoint(known):
        raise UserError(
            f"{KEY} {name_of(source)}: its labels are {_listed(counts)}, and {model} knows "
            f"{', '.join(known)}; {CALLED}"
        )
    return {label: counts[label] for label in sorted(counts.keys() - {*known})}


def _labels_of(row: Row, settings: TaskSection) -> set[str]:
    return labels_in(row[LABEL]) if settings.has_label else {*settings.labels_of(row)}


def report(
    rows: Sequence[Mapping[str, Any]],
    counts: Counts,
    unknown: Mapping[str, int],
    examples: Artifact | None,
) -> dict[str, Any]:
    """What became of the rows of a file, and how many texts the model was trained on."""
    trained_on = 0
    if examples is not None:
        known = {*read_arrow(examples.path / "train.arrow")["id"].to_pylist()}
        trained_on = sum(f"{text_key(row[TEXT]):016x}" in known for row in rows)
    return {
        "read": counts.read,
        "kept": counts.kept,
        "dropped": dict(sorted(counts.dropped.items())),
        "noted": dict(sorted(counts.noted.items())),
        "unknown_labels": dict(unknown),
        "trained_on": trained_on,
    }


def lines(report: Mapping[str, Any], model: str) -> Iterator[str]:
    """What a user must know of the rows."""
    dropped = _listed(report["dropped"]) or "none"
    yield f"{report['read']:,} rows read, {report['kept']:,} kept; dropped: {dropped}"
    if report["noted"]:
        yield f"in the rows read: {_listed(report['noted'])}"
    if report["unknown_labels"]:
        yield (
            f"warning: labels that {model} does not know, so that it has these rows wrong: "
            + _listed(report["unknown_labels"])
        )
    if report["trained_on"]:
        yield (
            f"warning: {report['trained_on']:,} of the rows are among those that {model} was "
            "trained on"
        )


def _listed(counts: Mapping[str, int]) -> str:
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(largest) - SHOWN:,} more" if len(largest) > SHOWN else ""
    return ", ".join(f"{name} {count:,}" for name, count in largest[:SHOWN]) + more
