"""A look at the files that a recipe names before anything runs: are they there, have they the
columns, and are the first rows such that a run would read them? What is remote, or a dataset, is
not looked at."""

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence

from cluster.errors import UserError
from cluster.section import Conflict, Invalid
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.config import Corpora
from trainers.corpora.labels.values import key_in, not_in_map
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.rows import there_are
from trainers.corpora.reading.readers import (
    Document,
    columns_of,
    read,
    too_many_unreadable,
    unreadable_row,
    wanted,
)
from trainers.corpora.reading.sources import (
    Part,
    every_source,
    is_remote,
    knob,
    located,
    missing_folders,
)

ROWS, CHARACTERS = 1_000, 1_000_000
"""Of a source, what is looked at, at most: a few hundredths of a second."""


def faults(corpora: Corpora) -> Iterator[Conflict]:
    """A conflict for each file or column that is not there, and for rows that a run refuses."""
    own = {f"corpora.sources.{name}" for name in corpora.sources}
    for key, source in every_source(corpora):
        yield from missing_folders({f"{key}.dataset": source.dataset})
        if source.path is None or is_remote(source):
            continue
        try:
            files = located(source).files
            filled = [file for file in files if os.path.getsize(file)]
            first = [*filled, *files][0]
            columns = columns_of(source, first)
            if key not in own:  # every row is needed
                if problem := unreadable_row(source, filled, ROWS):
                    yield Conflict(knob(key, "path"), problem)
                continue
            missing = [*_missing(source, key, first, columns)]
            yield from missing
            if not filled:
                yield Conflict(f"{key}.path", f"{', '.join(files)}: empty; leave the source out")
            elif not missing:
                yield from _refused(source, key, filled, corpora.clean)
        except Invalid as error:
            yield Conflict(knob(key, error.key), str(error))
        except UserError as error:  # a file cannot be read at all
            yield Conflict(knob(key, "path"), str(error))


def _missing(source: Source, key: str, file: str, columns: Collection[str]) -> Iterator[Conflict]:
    for name, column in wanted(source).items():
        if columns and column not in columns:  # of an empty file nothing can be told
            yield Conflict(
                f"{key}.{name}", f"no column {column!r} in {file}; {there_are(columns, column)}"
            )


def _refused(source: Source, key: str, files: Sequence[str], clean: Clean) -> Iterator[Conflict]:
    """The first reason for which a run would refuse the rows of a file, if there is one."""
    rows = characters = 0
    for file in files:
        look = _Look()
        for document in read(source, Part(file)):
            if rows == ROWS or characters > CHARACTERS:
                look.is_whole = False
                break
            rows += 1
            characters += len(document.text or "")
            look.add(document)
            if unmapped := _unmapped(document, source, key, clean):
                yield Conflict(f"{key}.label_map", f"{document.where}: {unmapped}")
                return
        if problem := look.refusal(clean.max_unreadable):
            at = [name for name, column in wanted(source).items() if repr(column) in problem]
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


def _unmapped(document: Document, source: Source, key: str, clean: Clean) -> str | None:
    """What a run tells of a label that is not in the source's map; it drops short texts before."""
    label, label_map = document.label, source.label_map
    if document.text is None or label is None or label_map is None:
        return None
    if key_in(label_map, label) is not None:
        return None
    from trainers.corpora.cleaning.clean import normalize, too_short_or_long

    is_dropped = too_short_or_long(normalize(document.text, clean), clean)
    return None if is_dropped else not_in_map(label, label_map, key)
