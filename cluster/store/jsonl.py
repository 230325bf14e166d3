"""A file of JSON objects, one a line, that grows on storage while something goes on.

One process writes at a time. On a local disk a line is there as soon as it is appended; an object
store has no append, so there the whole file goes up now and then, in a thread of its own. Readers
see no half lines: a writer that was killed may leave one, and it is passed over.
"""

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.errors import as_storage_failure
from cluster.store.storage import Storage

UPLOAD_INTERVAL_S = 20.0

Record = dict[str, Any]


def read(storage: Storage, name: str) -> list[Record]:
    """All whole lines of a file; none if it is absent."""
    try:
        text = storage.read(name).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # half a line of a writer that was killed
    return found


class Lines:
    """The writer of such a file: goes on behind what stands there already. Its methods raise
    InfrastructureError where the storage takes nothing."""

    def __init__(self, storage: Storage, name: str):
        self._storage, self._name = storage, name
        with as_storage_failure(storage.root, f"{name} cannot be read"):
            self.records = read(storage, name)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "lines")
        self._saving: concurrent.futures.Future[None] | None = None
        self._saved_at = time.monotonic()
        self._write()  # without half lines

    def append(self, record: Record) -> None:
        self.records.append(record)
        if self._storage.is_local:
            path = Path(self._storage.root, self._name)
            with self._as_failure(), path.open("a", encoding="utf-8") as stream:
                stream.write(_line(record))
        elif time.monotonic() - self._saved_at >= UPLOAD_INTERVAL_S and self._is_idle():
            self.save()

    def save(self) -> None:
        """Brings the lines so far to the disk itself or to the object store, in a thread."""
        self._saved_at = time.monotonic()
        if self._saving is not None:
            self._saving.cancel()  # one that has not begun: this one has its lines too
        content = None if self._storage.is_local else self.content()
        self._saving = self._thread.submit(self._bring, content)

    def keep(self, wanted: Callable[[Record], bool]) -> None:
        """Drops the lines that are not wanted."""
        self.records = list(filter(wanted, self.records))
        self._write()

    def close(self) -> None:
        """After this, everything is on storage."""
        self._thread.shutdown()
        self._write()

    def content(self) -> bytes:
        """The file as it is to be."""
        return "".join(map(_line, self.records)).encode()

    def _is_idle(self) -> bool:
        return self._saving is None or self._saving.done()

    def _bring(self, content: bytes | None) -> None:
        """`content` to the object store, or None: the file to the disk itself."""
        with contextlib.suppress(OSError):  # `close` makes it good, or raises
            if content is None:
                self._storage.sync(self._name)
            else:
                self._storage.write(self._name, content)

    def _write(self) -> None:
        with self._as_failure():
            self._storage.write(self._name, self.content())

    def _as_failure(self) -> contextlib.AbstractContextManager[None]:
        return as_storage_failure(self._storage.root, f"{self._name} cannot be written")


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
