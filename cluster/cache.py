"""Files of a remote artifact on this node's disk, fetched one by one, within a size.

    CACHE/files/SHA256         whole and verified; its time says when it was last asked for
    CACHE/files/SHA256.part    being fetched, locked by the process that fetches it

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from cluster.artifacts import Artifact
from cluster.errors import InfrastructureError, UserError
from cluster.storage import CACHE

T = TypeVar("T")
FETCHES = 2
"""What arrives damaged, or not to its end, is fetched once more."""


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of an artifact: in place if its workspace is local, else through the cache."""

    artifact: Artifact
    limit_bytes: int
    """What the cache may take on this node's disk."""

    @property
    def are_here(self) -> bool:
        return self.artifact.storage.is_local

    def size(self, name: str) -> int:
        return self.artifact.manifest.files[name]["bytes"]

    def read(self, name: str, reader: Callable[[Path], T]) -> T:
        """`reader` of the local file. Raises InfrastructureError if it cannot be had whole."""
        if self.are_here:
            return reader(Path(self.artifact.storage.root) / self.artifact.id / name)
        while True:
            path = self.fetch(name)
            with contextlib.suppress(FileNotFoundError):  # evicted before it was opened
                return reader(path)

    def fetch(self, name: str) -> Path:
        """Brings a file here, if it is not, and marks it as used."""
        cache = CACHE.expanduser() / "files"
        cache.mkdir(parents=True, exist_ok=True)
        whole = cache / self.artifact.manifest.files[name]["sha256"]
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
                stream.truncate(self.size(name))  # counted by all before it is written
                make_room(cache, self.limit_bytes)
                self._download(name, stream)
                part.rename(whole)
        return whole

    def _download(self, name: str, stream: BinaryIO) -> None:
        storage, where = self.artifact.storage, f"{self.artifact.id}/{name}"
        for _ in range(FETCHES):
            problem = "not what its manifest says"
            try:
                if _copied(storage.pieces(where), stream) == self.artifact.manifest.files[name]:
                    return
            except FileNotFoundError as error:
                raise InfrastructureError(
                    f"{where}: gone from {storage.root}; make the artifact again"
                ) from error
            except OSError as error:  # of the network, mostly
                if error.errno == errno.ENOSPC:
                    raise UserError(
                        f"cluster.cache_gb: the disk of {CACHE} is full before "
                        f"{self.limit_bytes / 1e9:g} GB are used; set less, or make room"
                    ) from error
                problem = str(error)
        raise InfrastructureError(
            f"{where}: fetched {FETCHES} times from {storage.root}: {problem}; where it is damaged "
            "there, delete the artifact and make it again"
        )


def _copied(pieces: Iterable[bytes], stream: BinaryIO) -> dict[str, Any]:
    """Copies a file to the begin of a stream; what a manifest records of it."""
    digest, size = hashlib.sha256(), 0
    stream.seek(0)
    for piece in pieces:
        digest.update(piece)
        size += stream.write(piece)
    stream.truncate()
    stream.flush()
    return {"sha256": digest.hexdigest(), "bytes": size}


def make_room(cache: Path, limit_bytes: int) -> None:
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
