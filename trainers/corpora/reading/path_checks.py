"""A look at the files that a recipe names before anything runs: are they there, have they the
columns, and are the first rows such that a run would read them? What is remote, or a dataset, is
not looked at."""

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.examples.label_values import refusal_of_labels
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import EVALUATION_SETS, Source, knob
from trainers.corpora.reading.formats.rows import there_are
from trainers.corpora.reading.readers import (
    Document,
    columns_of,
    read,
    too_many_unreadable,
    unreadable_row,
)
from trainers.corpora.reading.sources import (
    Part,
    is_remote,
    located,
    missing_folders,
)

ROWS, CHARACTERS = 1_000, 1_000_000
"""Of a source, what is looked at, at most: a few hundredths of a second."""


def faults(
    sources: Iterable[tuple[str, Source]], clean: Clean, task: TaskRows
) -> Iterator[Conflict]:
    """A conflict for each file or column that is not there, and for rows that a run refuses, of
    sources and evaluation sets with their keys."""
    for key, source in sources:
        yield from missing_folders({f"{key}.dataset": source.dataset})
        if source.path is None or is_remote(source):
            continue
        try:
            files = located(source).files
            filled = [file for file in files if os.path.getsize(file)]
            first = [*filled, *files][0]
            columns = columns_of(source, first, source.wanted.values())
            if key == EVALUATION_SETS:  # every row is needed
                if problem := unreadable_row(source, filled, ROWS):
                    yield Conflict(knob(key, "path"), problem)
                continue
            missing = [*_missing(source, key, first, columns)]
            yield from missing
            if not filled:
                yield Conflict(f"{key}.path", f"{', '.join(files)}: empty; leave the source out")
            elif not missing:
                yield from _refused(source, key, filled, clean, task)
        except Invalid as error:
            yield Conflict(knob(key, error.key), str(error))
        except UserError as error:  # a file cannot be read at all
            yield Conflict(knob(key, "path"), str(error))


def _missing(source: Source, key: str, file: str, columns: Collection[str]) -> Iterator[Conflict]:
    for role, column in source.wanted.items():
        if columns and column not in columns:  # of an empty file nothing can be told
            yield Conflict(
                f"{key}.columns.{role}",
                f"no column {column!r} in {file}; {there_are(columns, column)}",
            )


def _refused(
    source: Source, key: str, files: Sequence[str], clean: Clean, task: TaskRows
) -> Iterator[Conflict]:
    """The first reason for which a run would refuse the rows of a file, if there is one."""
    rows = characters = 0
    for file in files:
        look = _Look()
        for document in task.checked(read(source, Part(file))):
            if rows == ROWS or characters > CHARACTERS:
                look.is_whole = False
                break
            rows += 1
            characters += len(document.text or "")
            look.add(document)
            if refused := _refused_label(document, source, key, clean, task):
                of_label = "label_map" if source.label_map else "columns.label"
                yield Conflict(f"{key}.{of_label}", f"{document.where}: {refused}")
                return
        if problem := look.refusal(clean.max_unreadable):
            roles = source.wanted.items()
            at = [f"columns.{role}" for role, column in roles if repr(column) in problem]
            yield Conflict(f"{key}.{[*at, 'path'][0]}", problem)
            return
        if not look.is_whole:
            return


@dataclasses.dataclass
class _Look:
    """Of the first rows of a file: what cannot be read."""

    rows: int = 0
    unreadable: int = 0
    blank: int = 0
    """Of the unreadable: rows without a text or a label, which others may have."""
    first: Document | None = None
    """The first that cannot be read."""
    is_whole: bool = True
    """Whether these are all rows."""

    def add(self, document: Document) -> None:
        self.rows += 1
        if document.problem is not None:
            self.unreadable += 1
            self.blank += document.problem.reason.startswith(("no text in", "no label in"))
            self.first = self.first or document

    def refusal(self, limit: float) -> str | None:
        """What a run tells of such a file. Of a part of it, only where nothing can be read."""
        if self.first is None:
            return None
        if self.is_whole:
            return too_many_unreadable(self.first, self.unreadable, self.rows, limit)
        is_all = self.unreadable == self.rows > self.blank
        return f"{self.first.where}: {self.first.problem}" if is_all else None


def _refused_label(
    document: Document, source: Source, key: str, clean: Clean, task: TaskRows
) -> str | None:
    """What a run tells of a label that it refuses; it drops short texts before."""
    if document.text is None or document.label is None or not task.has_label:
        return None
    refused = refusal_of_labels(document.label, source.label_map, key, task.several_labels)
    if refused is None:
        return None
    from trainers.corpora.cleaning.rules import normalize, too_short_or_long

    return None if too_short_or_long(normalize(document.text, clean), clean) else refused
