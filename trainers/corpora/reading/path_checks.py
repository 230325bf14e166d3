"""A look at the files that a recipe names before anything runs: are they there, and are the first
rows such that a run would read them? What is remote, or a dataset, is not looked at."""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.examples.label_values import refusal_of_labels
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import EVALUATION_SETS, Source, knob
from trainers.corpora.reading.readers import (
    Document,
    absent_slice,
    every_text,
    read,
    too_many_unreadable,
)
from trainers.corpora.reading.sources import Part, is_remote, located, missing_folders

ROWS = 1_000
"""Of a source at most, a text of 1,000 characters counting as one more: a few hundredths of a
second."""


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
            if key == EVALUATION_SETS:
                collections.deque(itertools.islice(every_text(source.path, key), ROWS), maxlen=0)
            elif not any(map(os.path.getsize, files)):
                yield Conflict(f"{key}.path", f"{', '.join(files)}: empty; leave the source out")
            else:
                absent = absent_slice(source)
                if absent is not None:
                    yield Conflict(f"{key}.slices", str(absent))
                else:
                    yield from _refused(source, key, files, clean, task)
        except Invalid as error:
            yield Conflict(knob(key, error.key), str(error))
        except UserError as error:  # a file cannot be read at all
            yield Conflict(knob(key, _key_of(source, str(error))), str(error))


def first_documents(source: Source, task: TaskRows) -> tuple[list[Document], bool]:
    """The first documents of a source on this disk, as they are read, and whether these are all."""
    found: list[Document] = []
    left = ROWS
    for file in located(source).files:
        for document in read(source, Part(file), task.optional_roles):
            left -= rows_worth(document)
            if left < 0:
                return found, False
            found.append(document)
    return found, True


def rows_worth(document: Document) -> int:
    """As how many of ROWS a document counts."""
    return 1 + len(document.text or "") // 1000


def _key_of(source: Source, problem: str) -> str:
    """The key of a source that a problem is about."""
    named = [role for role, column in source.wanted.items() if f"column {column!r}" in problem]
    keys = ["slices" if role in source.slices else f"columns.{role}" for role in named]
    return [*keys, "path"][0]


def _refused(
    source: Source, key: str, files: Sequence[str], clean: Clean, task: TaskRows
) -> Iterator[Conflict]:
    """The first reason for which a run would refuse the rows of a file, if there is one."""
    left = ROWS
    for file in files:
        rows: list[Document] = []
        for document in task.checked(read(source, Part(file), task.optional_roles)):
            rows.append(document)
            left -= rows_worth(document)
            if left < 0:
                break
            if refused := _refused_label(document, source, key, clean, task):
                of_label = "label_map" if source.label_map else "columns.label"
                yield Conflict(f"{key}.{of_label}", f"{document.where}: {refused}")
                return
        if problem := _unreadable(rows, left >= 0, clean.max_unreadable):
            yield Conflict(f"{key}.{_key_of(source, problem)}", problem)
            return
        if left < 0:
            return


def _unreadable(rows: Sequence[Document], is_whole: bool, limit: float) -> str | None:
    """What a run tells of a file with these first rows. Of a part of it, only where nothing can be
    read, and not for want of texts or labels, which other rows may have."""
    unreadable = [row for row in rows if row.problem is not None]
    if not unreadable:
        return None
    if is_whole:
        return too_many_unreadable(unreadable[0], len(unreadable), len(rows), limit)
    blank = ("no text in", "no label in")
    is_blank = all(str(row.problem).startswith(blank) for row in unreadable)
    if is_blank or len(unreadable) < len(rows):
        return None
    return f"{unreadable[0].where}: {unreadable[0].problem}"


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
