"""A workspace: a folder, or a URI that pyarrow.fs reads and writes (s3://, gs://).

Names are relative, with forward slashes. A local workspace is used in place; of a remote one,
folders are brought into a local cache when they are read, and sent up when they are written.
Workers on other nodes need a workspace that every node sees: a shared folder or a URI.
"""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cluster.errors import InfrastructureError, UserError, disk_failure
from cluster.store.retries import retried

if TYPE_CHECKING:  # its import, which brings NumPy, would be a third of what `raymill check` takes
    import pyarrow as pa
    import pyarrow.fs as pafs

CACHE = Path("~/.cache/raymill")
UNFINISHED = re.compile(r"\.[0-9a-f]{8}\.part$")
"""How the name of a local file ends while it is written; a kill may leave it."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where artifacts live. Small and picklable: every process opens its own connection."""

    root: str
    """An absolute path, or a URI."""

    @classmethod
    def at(cls, place: str, must_exist: bool = False, key: str = "workspace") -> "Storage":
        """The storage at a place, such as a recipe's `workspace`; errors name the `key`. Raises
        UserError if it cannot be used, or if a local one is absent and `must_exist`;
        InfrastructureError if it does not answer."""
        if "://" in place:
            storage = cls(place.rstrip("/"))
            try:
                fs, path = storage._fs
            except (OSError, ValueError) as error:
                raise UserError(f"{key}: cannot open {place!r}: {error}") from error
            try:
                if fs.type_name == "s3":
                    fs.create_dir(path.partition("/")[0])  # or says that there is no such bucket
                fs.get_file_info(path)  # once: later calls are tried again for longer
            except OSError as error:
                raise InfrastructureError(
                    f"{key}: cannot reach {place!r}: {error}; check the address and the credentials"
                ) from error
            return storage
        if re.match(r"[a-z][a-z0-9+.-]+:/", place):
            meant = place.replace(":", ":/", 1)
            raise UserError(f"{key}: {place!r} is no URI; did you mean {meant!r}?")
        folder = Path(place).expanduser().absolute()
        if must_exist and not folder.is_dir():
            raise UserError(f"{key}: no folder {str(folder)!r}; nothing was run there yet")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{key}: cannot make {str(folder)!r}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"{key}: {str(folder)!r} is not writable; give another place")
        return cls(str(folder))

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @functools.cached_property
    def _fs(self) -> "tuple[pafs.FileSystem, str]":
        import pyarrow.fs as pafs

        root = self.root
        if root.startswith("s3://") and "allow_delayed_open" not in root:
            # A small object is then put by one request instead of three.
            root += ("&" if "?" in root else "?") + "allow_delayed_open=true"
        return pafs.FileSystem.from_uri(root)

    def __getstate__(self) -> dict[str, str]:
        return {"root": self.root}

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._fs[1]) / name)

    @retried
    def exists(self, name: str) -> bool:
        return self._info(name) is not None

    @retried
    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""
        with self._fs[0].open_input_stream(self._path(name)) as stream:
            return stream.read()

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, and to the disk itself."""
        self.write_pieces(name, [data])

    def write_pieces(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file piece by piece. Where that fails, a local one is not there; of an object the
        first pieces may be, for pyarrow closes what it cannot write. `pieces` are asked for again
        where it is tried again."""
        fs, target = self._fs[0], self._path(name)
        retried(self._make_folder)(str(PurePosixPath(target).parent))
        # An object store shows an object only when it is closed; a folder needs the rename.
        written = f"{target}.{uuid.uuid4().hex[:8]}.part" if self.is_local else target
        self._stream(written, pieces)
        if written != target:
            _sync(Path(written))
            retried(fs.move)(written, target)
            _sync(Path(target).parent)

    def _make_folder(self, path: str) -> None:
        """S3 needs none: pyarrow would put a marker for each folder above, a request each. Of
        pyarrow's other stores, GCS finds no folder without."""
        fs = self._fs[0]
        if fs.type_name != "s3":
            fs.create_dir(path, recursive=True)

    @retried
    def _stream(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        fs = self._fs[0]
        try:
            with fs.open_output_stream(path) as stream:
                for piece in pieces:
                    stream.write(piece)
        except OSError:
            with contextlib.suppress(OSError):  # what failed is told; this only makes room
                fs.delete_file(path)
            raise

    @retried
    def folders(self, name: str) -> list[str]:
        """Names of the folders in a folder, sorted; none if it is absent."""
        infos = self._listed(name, recursive=False)
        return sorted(info.base_name for info in infos if info.type.name == "Directory")

    def files(self, name: str) -> dict[str, int]:
        """Every file below a folder: path relative to it, to size in bytes; sorted. What a killed
        `write` left is none of them."""
        folder = self._path(name)
        relative = {
            PurePosixPath(info.path).relative_to(folder): info.size
            for info in self._infos(name)
            if UNFINISHED.search(info.path) is None
        }
        return {path.as_posix(): size for path, size in sorted(relative.items())}

    def measure(self, name: str) -> tuple[int, int]:
        """Bytes of all files below a folder, and the time of the last change of one, in
        nanoseconds, 0 without any."""
        infos = self._infos(name)
        newest = max((info.mtime_ns or 0 for info in infos), default=0)
        return sum(info.size for info in infos), newest

    @retried
    def _infos(self, name: str) -> "list[pafs.FileInfo]":
        return [info for info in self._listed(name, recursive=True) if info.is_file]

    def _listed(self, name: str, recursive: bool) -> "list[pafs.FileInfo]":
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._path(name), allow_not_found=True, recursive=recursive)
        found: list[pafs.FileInfo] = self._fs[0].get_file_info(selector)
        return found

    def _info(self, name: str) -> "pafs.FileInfo | None":
        """Of a file or folder; None if it is absent."""
        info = self._fs[0].get_file_info(self._path(name))
        return None if info.type.name == "NotFound" else info

    @retried
    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes and time of the last change, in nanoseconds, of a file. Raises
        FileNotFoundError."""
        info = self._info(name)
        if info is None:
            raise FileNotFoundError(f"{self.root}: no {name}")
        return info.size, info.mtime_ns

    def open(self, name: str) -> "pa.NativeFile":
        """A file, to read ranges of. Raises FileNotFoundError."""
        return self._fs[0].open_input_file(self._path(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, a few at a time. Raises FileNotFoundError."""
        with self._fs[0].open_input_stream(self._path(name)) as stream:
            while piece := stream.read(1 << 20):
                yield piece

    @retried
    def sha256(self, name: str) -> str:
        """Hash of a file, read in pieces."""
        digest = hashlib.sha256()
        for piece in self.pieces(name):
            digest.update(piece)
        return digest.hexdigest()

    @retried
    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all it holds; nothing if it is absent."""
        info, fs = self._info(name), self._fs[0]
        if info is not None:
            delete = fs.delete_file if info.is_file else fs.delete_dir
            delete(self._path(name))

    def local(self, name: str) -> Path:
        """A local folder with the content of folder `name`, fetched once if storage is remote."""
        if self.is_local:
            return Path(self.root) / name
        # Times and sizes too: a checkpoint may be written again under its name. (Not within the
        # same second, which is as exact as an object store's times are.)
        state = sorted((info.path, info.size, info.mtime_ns) for info in self._infos(name))
        identity = hashlib.sha256(f"{self.root}/{name}/{state}".encode()).hexdigest()[:16]
        cached = CACHE.expanduser() / identity
        try:
            if not cached.exists():
                lock = _made(cached.parent) / f"{identity}.lock"
                with lock.open("w") as stream:  # processes of one node fetch it once
                    fcntl.flock(stream, fcntl.LOCK_EX)
                    if not cached.exists():
                        self._fetch(name, cached)
        except OSError as error:
            told = disk_failure(error, f"{CACHE}, for a copy of {name}")
            if told is None:
                raise
            raise told from error
        return cached

    @retried
    def _fetch(self, name: str, cached: Path) -> None:
        import pyarrow.fs as pafs

        part = cached.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # what a killed process left
        part.mkdir()
        try:
            pafs.copy_files(self._path(name), str(part), source_filesystem=self._fs[0])
        except OSError:
            shutil.rmtree(part, ignore_errors=True)  # it may have filled the disk
            raise
        part.rename(cached)

    def forget(self, local: Path) -> None:
        """Deletes what `local` brought here, to make room; nothing of a local storage."""
        if not self.is_local:
            shutil.rmtree(local, ignore_errors=True)  # another process may do the same

    @contextlib.contextmanager
    def writing(self, name: str, by_way_of: str | None = None) -> Iterator[Path]:
        """A local folder to write into; what stands in it at the end is added to folder `name`.

        On a local disk that is the folder itself, where files show as they are written. If they are
        to show only when they are whole, and on the disk itself, they come `by_way_of` another.
        """
        if self.is_local and by_way_of is None:
            yield _made(Path(self.root) / name)
            return
        beside = _made(Path(self.root) / str(by_way_of)) if self.is_local else None
        with tempfile.TemporaryDirectory(prefix="raymill-", dir=beside) as folder:
            yield Path(folder)
            if self.is_local:
                _move(Path(folder), Path(self.root) / name)
            else:
                self._send(folder, name)

    @retried
    def _send(self, folder: str, name: str) -> None:
        import pyarrow.fs as pafs

        fs, place = self._fs[0], self._path(name)
        self._make_folder(place)
        pafs.copy_files(folder, place, destination_filesystem=fs)

    def sync(self, name: str) -> None:
        """Waits until a file, or a folder with all it holds, is on the disk itself."""
        if self.is_local:
            top = Path(self.root) / name
            for path in (*top.rglob("*"), top):
                _sync(path)

    def rename(self, source: str, target: str) -> None:
        """Rename a folder in one step (local storage only: object stores cannot)."""
        assert self.is_local, "object stores have no atomic rename"
        _made((Path(self.root) / target).parent)
        os.rename(Path(self.root) / source, Path(self.root) / target)
        _sync((Path(self.root) / target).parent)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _move(source: Path, target: Path) -> None:
    """Adds the files of a folder to another on the same disk."""
    folders = set()
    for path in [path for path in source.rglob("*") if path.is_file()]:
        _sync(path)
        place = target / path.relative_to(source)
        folders.add(_made(place.parent))
        path.replace(place)
    for folder in folders:
        _sync(folder)


def _sync(path: Path) -> None:
    """Without it, a file or its name may be gone after a power cut though what was written later is
    there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems of networks know no sync of a folder; they see to names themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
