"""What to tell of a path where there are no files: it may be a folder, or mistyped."""

import itertools
from pathlib import Path

from cluster.recipe.section import nearest
from trainers.corpora.reading.formats import COMPRESSIONS, KNOWN, archive_of, known_format

LOOKED_AT = 1000
"""Files of a folder at most: it may have millions."""


def explain(path: str, folder: Path, tried: Path | None = None) -> str:
    """`path` as the recipe has it; `folder`, where it was looked for; `tried`, what it names if it
    is no glob."""
    if tried is not None and tried.is_dir():
        return f"{path!r} is a folder; give its files{_such_as(path, tried)}"
    if tried is not None and tried.is_symlink():
        return f"{path!r} is a link to '{tried.readlink()}', where there is no file"
    hint = ""
    if tried is not None and tried.parent.is_dir():
        beside = itertools.islice(tried.parent.iterdir(), LOOKED_AT)
        hint = nearest(tried.name, [file.name for file in beside])
    is_absolute = Path(path).is_absolute() or "://" in path
    looked = "" if is_absolute else f" (looked in {folder})"
    return f"no file matches {path!r}{looked}{hint}"


def _such_as(path: str, folder: Path) -> str:
    for pattern in ("*", "**/*"):
        for file in itertools.islice(folder.glob(pattern), LOOKED_AT):
            if file.is_file() and (known_format(file.name) or archive_of(file.name)):
                count = 2 if file.suffix.lower() in COMPRESSIONS else 1
                return f", such as '{path.rstrip('/')}/{pattern}{''.join(file.suffixes[-count:])}'"
    return f"; none in it has a known ending ({KNOWN})"
