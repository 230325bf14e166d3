"""What to tell of a path where there are no files: it may be a folder, or mistyped."""

import collections
import itertools
from collections.abc import Iterable
from pathlib import Path

from cluster.section import nearest
from trainers.corpora.reading.formats import KNOWN, archive_of, ending, known_format

LOOKED_AT = 1000
"""Files of a folder at most: it may have millions."""


def explain(path: str, folder: Path, tried: Path | None = None) -> str:
    """`path` as the recipe has it; `folder`, where it was looked for; `tried`, what it names if it
    is no glob."""
    if tried is not None and tried.is_dir():
        given = f"{path!r} is a folder; give its files"
        inside, below = tried.iterdir(), tried.rglob("*")
        for pattern, found in (("*", inside), ("**/*", below)):
            common = _commonest_ending(found)
            if common is not None:
                return f"{given}, such as '{path.rstrip('/')}/{pattern}{common}'"
        return f"{given}; none in it has a known ending ({KNOWN})"
    if tried is not None and tried.is_symlink():
        return f"{path!r} is a link to '{tried.readlink()}', where there is no file"
    beside = tried.parent if tried is not None else folder
    names = _few(beside.iterdir()) if tried is not None and beside.is_dir() else ()
    hint = nearest(tried.name, [found.name for found in names]) if tried is not None else ""
    is_absolute = Path(path).is_absolute() or "://" in path
    looked = "" if is_absolute else f" (looked in {folder})"
    return f"no file matches {path!r}{looked}{hint}"


def _commonest_ending(found: Iterable[Path]) -> str | None:
    counted = collections.Counter(
        ending(path.name)
        for path in _few(found)
        if path.is_file() and (known_format(path.name) or archive_of(path.name))
    )
    return counted.most_common(1)[0][0] if counted else None


def _few(found: Iterable[Path]) -> Iterable[Path]:
    return itertools.islice(found, LOOKED_AT)
