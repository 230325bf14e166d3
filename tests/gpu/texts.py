"""Text that every machine has: Python's own library. A document is a top-level part of one of its
files; a labelled text is a piece of one, its label the package that it is from."""

import collections
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SHORTEST = 200
"""Characters: shorter parts are left out."""
LABELS = 4
PIECE = 400
"""Characters of a labelled text."""


def parts() -> Iterator[tuple[str, str]]:
    """(package, text), in the order of the files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library)
        if {"site-packages", "dist-packages", "test", "tests", "idlelib"} & set(inside.parts):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for part in text.split("\n\n\n"):
            if len(part) >= SHORTEST:
                yield inside.parts[0], part


def documents(size: int) -> list[str]:
    """So many characters of text, at least, or all there is."""
    chosen, read = [], 0
    for _, text in parts():
        chosen.append(text)
        read += len(text)
        if read >= size:
            break
    return chosen


def labelled(rows: int) -> list[dict[str, str]]:
    """Equally many of each of the largest packages."""
    by_package = collections.defaultdict(list)
    for package, text in parts():
        if not package.endswith(".py"):
            by_package[package] += [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    largest = sorted(by_package, key=lambda name: -len(by_package[name]))[:LABELS]
    each = min(rows // LABELS, len(by_package[largest[-1]]))
    return [{"text": text, "label": name} for name in largest for text in by_package[name][:each]]
