"""A run of a verb: recorded in its workspace, its log apart, and failures in clear words."""

import contextlib
from collections.abc import Iterator

from cluster.errors import disk_failure, storage_failure
from cluster.runs import records
from cluster.runs.progress import Terminal
from cluster.runs.records import Run
from cluster.store.storage import CACHE, Storage


@contextlib.contextmanager
def recorded(recipe: str, storage: Storage, terminal: Terminal) -> Iterator[Run]:
    """A recorded run, with the libraries' chatter in its log."""
    # Twice: the record is to have the clear words too, and may itself fail to be written.
    with failures_of(storage), records.recorded(storage, recipe) as record, failures_of(storage):
        terminal.err.write(f"{recipe}: workspace {storage.root}, log {record.log}\n")
        terminal.divert(record.id, record.log)
        yield record


@contextlib.contextmanager
def failures_of(storage: Storage) -> Iterator[None]:
    """Raises InfrastructureError in place of an OSError that is the storage's or a disk's."""
    try:
        yield
    except OSError as error:
        place = storage.root if storage.is_local else f"{CACHE} or the temporary folder"
        failure = disk_failure(error, place)
        # Of an object store, pyarrow gives a text alone.
        is_text = type(error) is OSError and error.errno is None
        if failure is None and is_text and not storage.is_local:
            failure = storage_failure(error, storage.root, "does not do what it should")
        if failure is None:
            raise
        raise failure from error
