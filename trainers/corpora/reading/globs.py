"""Find the files that a pattern means, on disks and in object stores.

`*`, `?` and `[ ]` stand for parts of a name, `**` for any number of folders, and at the end for all
files below. A folder with brackets in its name that exists is itself. Hidden names are passed over
unless the pattern begins as they do. Links are followed; a file of several names is read once.
"""

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import pyarrow.fs as pafs

from trainers.corpora.reading.formats import is_hidden

HIDDEN = "names that begin with '.', '_' or '~$' ({})"
LEADS_NOWHERE = "links that lead nowhere ({})"
MAY_NOT_BE_READ = "folders that may not be read ({})"
READ_ALREADY = "links to what is read already ({})"
SHOWN = 3
"""Of what was passed over for one reason."""
Skipped = collections.defaultdict[str, set[str]]
"""What was passed over, by the reason."""


class Found(NamedTuple):
    files: list[str]
    """Sorted, folder by folder."""
    skipped: list[str]
    """What was passed over, and why: a line for people for each reason."""


def is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def on_disk(folder: str, pattern: str) -> Found:
    """The files below a folder that a pattern means. Raises ValueError for one that means none."""
    folder, names = _begin(folder, pattern, os.path.isdir)
    skipped: Skipped = collections.defaultdict(set)
    base = os.path.realpath(folder)
    by_real_path: dict[str, list[str]] = collections.defaultdict(list)
    for file, real in _walk(folder, (), names, (), skipped):
        by_real_path[real].append(file)
    files = []
    for real, named in by_real_path.items():
        # Its own name, if that is among them.
        first, *others = sorted(named, key=lambda file: (f"{base}/{file}" != real, file))
        files.append(f"{folder.rstrip('/')}/{first}")
        skipped[READ_ALREADY].update(f"{folder}/{file}" for file in others)
    return _found(files, skipped)


def in_store(store: pafs.FileSystem, folder: str, pattern: str) -> Found:
    """The same in an object store, all of whose folder is listed."""

    def is_folder(path: str) -> bool:
        return store.get_file_info(path).type == pafs.FileType.Directory

    folder, names = _begin(folder, pattern, is_folder)
    files: list[str] = []
    skipped: Skipped = collections.defaultdict(set)
    selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
    for info in store.get_file_info(selector):
        parts = info.path.removeprefix(f"{folder}/").split("/")
        if info.type == pafs.FileType.File and _matches(parts, names):
            is_passed = any(_is_passed(part, names) for part in parts)
            (skipped[HIDDEN].add if is_passed else files.append)(info.path)
    return _found(files, skipped)


def would_find(folder: str, pattern: str, file: str, is_in_store: bool = False) -> bool:
    """Whether a pattern means a file, given by its whole path, as soon as that is there. Not seen
    is one below a link that stands among what a `*` means."""
    folder, names = _begin(folder, pattern, (lambda path: False) if is_in_store else os.path.isdir)
    # By the names as they are written, and on a disk by those without links.
    for whole in (os.path.normpath,) if is_in_store else (os.path.abspath, os.path.realpath):
        parts = os.path.relpath(whole(file), whole(folder)).split("/")
        is_passed = parts[0] == ".." or any(_is_passed(part, names) for part in parts)
        if _matches(parts, names) and not is_passed:
            return True
    return False


def _begin(
    folder: str, pattern: str, is_folder: Callable[[str], bool]
) -> tuple[str, Sequence[str]]:
    """The folder below which all lies that a pattern means, and the names in the rest of it."""
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if any("**" in name and name != "**" for name in names):
        raise ValueError("'**' stands for folders, and so for a whole name between slashes")
    while len(names) > 1:
        inside = f"{folder.rstrip('/')}/{names[0]}"
        if is_glob(names[0]) and not ("[" in names[0] and is_folder(inside)):
            break
        folder = inside
        del names[0]
    return folder, [*names, "*"] if names[-1:] == ["**"] else names


def _walk(
    folder: str, parts: Sequence[str], names: Sequence[str], above: Sequence[str], skipped: Skipped
) -> Iterator[tuple[str, str]]:
    """The files that match, by their names below `folder` and their paths without links. `parts`
    lead to where it looks, through the folders `above`."""
    place = "/".join([folder.rstrip("/"), *parts]) or "/"
    real = os.path.realpath(place)
    if real in above:
        skipped[READ_ALREADY].add(place)
        return
    try:
        entries = sorted(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        skipped[MAY_NOT_BE_READ].add(place)
        return
    for name in entries:
        path, inside = f"{place.rstrip('/')}/{name}", (*parts, name)
        if not _may_match(inside, names):
            continue
        if _is_passed(name, names):
            skipped[HIDDEN].add(path)
        elif os.path.isdir(path):
            yield from _walk(folder, inside, names, (*above, real), skipped)
        elif os.path.isfile(path):
            if _matches(inside, names):
                is_link = os.path.islink(path)
                yield "/".join(inside), os.path.realpath(path) if is_link else f"{real}/{name}"
        elif os.path.islink(path):
            skipped[LEADS_NOWHERE].add(path)


def _is_passed(name: str, names: Sequence[str]) -> bool:
    return is_hidden(name) and not any(pattern[0] == name[0] for pattern in names)


def _matches(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not names or not parts:
        return not names and not parts
    if names[0] == "**":
        return any(_matches(parts[skip:], names[1:]) for skip in range(len(parts)))
    return fnmatchcase(parts[0], names[0]) and _matches(parts[1:], names[1:])


def _may_match(parts: Sequence[str], names: Sequence[str]) -> bool:
    """Whether something that begins with these parts may match."""
    for part, name in zip(parts, names, strict=False):
        if name == "**":
            return True
        if not fnmatchcase(part, name):
            return False
    return len(parts) <= len(names)


def _found(files: list[str], skipped: Skipped) -> Found:
    lines = [
        f"passed over {why.format(len(paths))}: {', '.join(sorted(paths)[:SHOWN])}"
        + (", ..." if len(paths) > SHOWN else "")
        for why, paths in sorted(skipped.items())
        if paths
    ]
    return Found(sorted(files, key=lambda file: file.split("/")), lines)
