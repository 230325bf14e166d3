"""Of the wheels in some folders, those whose package is not installed: what an image brings itself
stays as it is. Prints their paths.

    python tests/gpu/missing.py FOLDER...
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def missing(folders: Sequence[str]) -> Iterator[Path]:
    names = (one.metadata["Name"] for one in importlib.metadata.distributions())
    installed = {_plain(name) for name in names if name}
    for folder in folders:
        for wheel in sorted(Path(folder).rglob("*.whl")):
            if _plain(wheel.name.partition("-")[0]) not in installed:
                yield wheel


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print(*missing(sys.argv[1:]), sep="\n")
