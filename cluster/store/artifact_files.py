"""The files of an artifact: where they are if its workspace is local, else through the cache."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster.store.artifacts import Artifact
from cluster.store.cache import RemoteFile, fetch

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Files:
    artifact: Artifact
    limit_bytes: float
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
        digest = self.artifact.manifest.files[name]["sha256"]
        where, size = f"{self.artifact.id}/{name}", self.size(name)
        remedy = "make the artifact again"
        file = RemoteFile(self.artifact.storage, where, size, digest, digest, remedy)
        return fetch(file, self.limit_bytes)
