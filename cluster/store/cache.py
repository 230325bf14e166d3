"""Files of a remote workspace on this node's disk, fetched one by one, within a size.

    CACHE/files/KEY         whole and verified; its time says when it was last asked for
    CACHE/files/KEY.part    being fetched, locked by the process that fetches it

All processes of a node share it, and wait for each other's fetches instead of repeating them. Files
not asked for longest go first. One that is mapped into memory may go too: Linux keeps its bytes
until the last reader is done.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from cluster.errors import InfrastructureError
from cluster.store.storage import CACHE, Storage

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
FETCHES = 2
"""What arrives damaged, or not to its end, is fetched once more."""


@dataclasses.dataclass(frozen=True)
class CachedFolder:
    """A folder of a workspace, whose files each node reads from its own disk. Picklable."""

    storage: Storage
    name: str
    limit_bytes: float
    """What the cache may take on a node's disk."""
    hashes: Mapping[str, str] | None = None
    """The sha256 of every file, if they are known and the files stay as they are."""

    def __truediv__(self, file: str) -> Path:
        return self.fetch(file)

    def fetch(self, file: str) -> Path:
        """A local path of a file, fetched if the workspace is remote. To be opened at once: later
        it may be evicted, though what is open stays readable. Raises InfrastructureError if it
        cannot be had whole."""
        if self.storage.is_local:
            return Path(self.storage.root) / self.name / file
        where = f"{self.name}/{file}"
        if self.hashes is not None:
            key = self.hashes[file]
        else:
            identity = f"{self.storage.root}/{where}:{self.storage.stamp(where)}"
            key = hashlib.sha256(identity.encode()).hexdigest()
        return self._fetched(where, key)

    def read(self, file: str, reader: Callable[[Path], T]) -> T:
        """`reader` of the local file, which may be evicted before it is opened."""
        while True:
            path = self / file
            try:
                return reader(path)
            except FileNotFoundError:
                if self.storage.is_local:
                    raise

    def names(self) -> list[str]:
        """Of all files, sorted; none if the folder is absent."""
        return list(self.storage.files(self.name))

    def open(self, file: str) -> "pa.NativeFile":
        """A file where it is, to read ranges of."""
        return self.storage.open(f"{self.name}/{file}")

    def _fetched(self, where: str, key: str) -> Path:
        """Brings a file here, if it is not, and marks it as used."""
        cache = CACHE.expanduser() / "files"
        cache.mkdir(parents=True, exist_ok=True)
        whole = cache / key
        part = whole.with_suffix(".part")
        while not _used(whole):
            with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                # While this process waited for the lock, another may have finished the file, or
                # swept it away.
                if not _is_at(stream, part):
                    continue
                if whole.exists():
                    part.unlink()
                    continue
                self._download(where, key, stream, cache)
                part.rename(whole)
        return whole

    def _download(self, where: str, key: str, stream: BinaryIO, cache: Path) -> None:
        root, wanted = self.storage.root, key if self.hashes is not None else None
        for _ in range(FETCHES):
            problem = "not what was written there"
            try:
                size, _ = self.storage.stamp(where)
                stream.truncate(size)  # counted by all before it is written
                make_room(cache, self.limit_bytes)
                digest, received = _copied(self.storage.pieces(where), stream)
                if received == size and wanted in (None, digest):
                    return
            except FileNotFoundError as error:
                raise InfrastructureError(f"{where}: gone from {root}; run again") from error
            except OSError as error:  # of the network, mostly
                if error.errno == errno.ENOSPC:
                    raise InfrastructureError(
                        f"cluster.cache_gb: the disk of {CACHE} is full before "
                        f"{self.limit_bytes / 1e9:g} GB are used; set less, or make room"
                    ) from error
                problem = str(error)
        raise InfrastructureError(
            f"{where}: fetched {FETCHES} times from {root}: {problem}; where it is damaged there, "
            "delete its folder and run again"
        )


def _copied(pieces: Iterable[bytes], stream: BinaryIO) -> tuple[str, int]:
    """Copies a file to the begin of a stream; its sha256 and size in bytes."""
    digest, size = hashlib.sha256(), 0
    stream.seek(0)
    for piece in pieces:
        digest.update(piece)
        size += stream.write(piece)
    stream.truncate()
    stream.flush()
    return digest.hexdigest(), size


def make_room(cache: Path, limit_bytes: float) -> None:
    """Deletes what processes that were killed left half fetched, then whole files, those not used
    for longest first, until `limit_bytes` are kept."""
    for part in cache.glob("*.part"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no living process fetches it
            if _is_at(stream, part):
                part.unlink()
    found = []
    for path in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):  # evicted by another process
            found.append((path.stat(), path))
    kept = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda item: item[0].st_mtime_ns):
        if kept > limit_bytes and path.suffix != ".part":
            path.unlink(missing_ok=True)
            kept -= stat.st_size


def _used(path: Path) -> bool:
    """Marks a file as used now; whether it is there."""
    try:
        os.utime(path, ns=(time.time_ns(), time.time_ns()))  # finer than the kernel's own
    except FileNotFoundError:
        return False
    return True


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the file that is open is the one at `path`."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False
