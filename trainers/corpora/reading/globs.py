"""Find the files that a path names, by one walk for disks and object stores.

`*`, `?` and `[ ]` stand for parts of a name, `**` for any number of folders, and at the end for all
files below. A name with brackets that exists is itself. Hidden names are passed over unless the
pattern begins as they do. Links are followed; a file or folder that several names lead to is read
once.
"""

import collections
import dataclasses
import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import pyarrow.fs as pafs

from trainers.corpora.reading.formats import is_hidden

MARKS = "*?["
HIDDEN = "names that begin with '.', '_' or '~$' ({})"
LEADS_NOWHERE = "links that lead nowhere ({})"
MAY_NOT_BE_READ = "folders that may not be read ({})"
READ_ALREADY = "links to what is read already ({})"
SHOWN = 3
"""Of what was passed over for one reason."""
Kind = Literal["file", "folder"] | None


class Found(NamedTuple):
    files: list[str]
    """Sorted, folder by folder."""
    skipped: list[str]
    """What was passed over, and why: a line for people for each reason."""


class Entry(NamedTuple):
    """What stands in a folder."""

    name: str
    kind: Kind
    """What it is, or what the link leads to."""
    is_link: bool = False


class Tree(Protocol):
    """Where to look for files."""

    def entries(self, folder: str) -> Iterable[Entry]:
        """In the order of their names. Raises PermissionError."""

    def kind(self, path: str) -> Kind: ...

    def real(self, path: str) -> str:
        """The path without links."""


class Disk:
    def entries(self, folder: str) -> Iterable[Entry]:
        try:
            with os.scandir(folder) as found:
                listed = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in listed:
            if entry.is_symlink():
                yield Entry(entry.name, self.kind(entry.path), is_link=True)
            elif entry.is_dir():
                yield Entry(entry.name, "folder")
            else:
                yield Entry(entry.name, "file" if entry.is_file() else None)

    def kind(self, path: str) -> Kind:
        if os.path.isdir(path):
            return "folder"
        return "file" if os.path.isfile(path) else None

    def real(self, path: str) -> str:
        return os.path.realpath(path)


class Listing:
    """A part of an object store, listed at once."""

    def __init__(self, infos: Iterable[pafs.FileInfo]):
        self._kinds: dict[str, Kind] = {}
        self._names: dict[str, set[str]] = collections.defaultdict(set)
        for info in infos:
            path: str = info.path
            self._kinds[path] = "file" if info.type == pafs.FileType.File else "folder"
            while "/" in path:  # not every store lists folders
                folder, _, name = path.rpartition("/")
                self._names[folder].add(name)
                self._kinds.setdefault(folder, "folder")
                path = folder

    def entries(self, folder: str) -> Iterable[Entry]:
        for name in sorted(self._names.get(folder, ())):
            yield Entry(name, self._kinds[f"{folder}/{name}"])

    def kind(self, path: str) -> Kind:
        return self._kinds.get(path)

    def real(self, path: str) -> str:
        return path


def is_glob(path: str) -> bool:
    return any(mark in path for mark in MARKS)


def find(tree: Tree, folder: str, pattern: str) -> Found:
    """The files below a folder that a pattern means. Raises ValueError for one that means none."""
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if any("**" in name and name != "**" for name in names):
        raise ValueError("'**' stands for folders, and so for a whole name between slashes")
    walk = _Walk(tree, [*names, "*"] if names[-1:] == ["**"] else names)
    walk.run(folder)
    return Found(sorted(walk.files.values(), key=lambda file: file.split("/")), walk.told())


@dataclasses.dataclass
class _Walk:
    tree: Tree
    patterns: Sequence[str]
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """By their paths without links."""
    skipped: dict[str, set[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(set)
    )
    """What was passed over, by the reason."""

    def run(self, folder: str) -> None:
        # What stands in a place itself comes before what links lead to, so that it is found by its
        # own name. The same folder is looked through once for the same rest of the pattern.
        waiting: list[tuple[str, int, bool]] = [(folder, 0, False)]
        linked: collections.deque[tuple[str, int, bool]] = collections.deque()
        linked_files: list[str] = []
        seen: set[tuple[str, int]] = set()
        while waiting or linked:
            place, at, is_link = waiting.pop() if waiting else linked.popleft()
            state = (self.tree.real(place), at)
            if state in seen:
                if is_link:
                    self.skipped[READ_ALREADY].add(place)
                continue
            seen.add(state)
            if self.patterns[at] == "**":
                waiting.append((place, at + 1, False))
            for path, entry, below in self._matching(place, at):
                if below < len(self.patterns):
                    (linked if entry.is_link else waiting).append((path, below, entry.is_link))
                elif entry.is_link:
                    linked_files.append(path)
                else:
                    self.files.setdefault(f"{state[0].rstrip('/')}/{entry.name}", path)
        for path in sorted(linked_files):
            if self.files.setdefault(self.tree.real(path), path) != path:
                self.skipped[READ_ALREADY].add(path)

    def _matching(self, folder: str, at: int) -> Iterator[tuple[str, Entry, int]]:
        """Of a folder, what the pattern means at this place, and the place in the pattern that
        stands for what is below: none for a file."""
        pattern = self.patterns[at]
        is_last, is_deep = at + 1 == len(self.patterns), pattern == "**"
        wanted: Kind = "file" if is_last else "folder"
        for path, entry in self._named(folder, pattern):
            leads_nowhere = entry.kind is None and entry.is_link
            if entry.kind != wanted and not leads_nowhere:
                continue
            if is_hidden(entry.name) and pattern[0] != entry.name[0]:
                self.skipped[HIDDEN].add(path)
            elif leads_nowhere:
                self.skipped[LEADS_NOWHERE].add(path)
            else:
                yield path, entry, at if is_deep else at + 1

    def _named(self, folder: str, pattern: str) -> Iterator[tuple[str, Entry]]:
        """What stands in a folder under a name that the pattern means."""
        prefix = folder.rstrip("/")
        # `*` and `?` mean themselves too, but `[a]` means `a` alone.
        if not is_glob(pattern) or ("[" in pattern and self.tree.kind(f"{prefix}/{pattern}")):
            path = f"{prefix}/{pattern}"
            yield path, Entry(pattern, self.tree.kind(path))
            return
        try:
            for entry in self.tree.entries(folder):
                if pattern == "**" or fnmatch.fnmatchcase(entry.name, pattern):
                    yield f"{prefix}/{entry.name}", entry
        except PermissionError:
            self.skipped[MAY_NOT_BE_READ].add(folder)

    def told(self) -> list[str]:
        return [
            f"passed over {why.format(len(paths))}: {', '.join(sorted(paths)[:SHOWN])}"
            + (", ..." if len(paths) > SHOWN else "")
            for why, paths in sorted(self.skipped.items())
        ]
