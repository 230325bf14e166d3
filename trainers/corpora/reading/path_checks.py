"""A look at the files that a recipe names before anything runs: are they there, is there text in
them, have they the columns, and are the texts text? Of a source's files the first that is not empty
is opened; what is remote, or a dataset, is not looked at."""

import os
from collections.abc import Collection, Iterator

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid
from trainers.corpora.config import Corpora
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats.rows import there_are
from trainers.corpora.reading.readers import columns_of, wanted, what_is_no_text
from trainers.corpora.reading.sources import every_source, is_remote, knob, located, missing_folders


def faults(corpora: Corpora) -> Iterator[Conflict]:
    """A conflict for each file or column that is not there."""
    own = {f"corpora.sources.{name}" for name in corpora.sources}
    for key, source in every_source(corpora):
        yield from missing_folders({f"{key}.dataset": source.dataset})
        if source.path is None or is_remote(source):
            continue
        try:
            files = located(source)
            first = next(filter(os.path.getsize, files), files[0])
            columns = columns_of(source, first)
            if key not in own:
                continue
            missing = [*_missing(source, key, first, columns)]
            yield from missing
            if not missing and (problem := what_is_no_text(source, first)):
                yield Conflict(f"{key}.text", problem)
            if not os.path.getsize(first):
                yield Conflict(f"{key}.path", f"{', '.join(files)}: empty; leave the source out")
        except Invalid as error:
            yield Conflict(knob(key, error.key), str(error))
        except UserError as error:  # the file cannot be read at all
            yield Conflict(knob(key, "path"), str(error))


def _missing(source: Source, key: str, file: str, columns: Collection[str]) -> Iterator[Conflict]:
    for name, column in wanted(source).items():
        if columns and column not in columns:  # of an empty file nothing can be told
            yield Conflict(
                f"{key}.{name}", f"no column {column!r} in {file}; {there_are(columns, column)}"
            )
