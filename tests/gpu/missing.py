"""Of the wheels in some folders, those whose package is not installed: what an image brings itself
stays as it is. Prints their paths.

    python tests/gpu/missing.py FOLDER...
"""

import importlib.metadata
import re
import sys
from pathlib import Path


def is_installed(wheel: Path) -> bool:
    name = wheel.name.partition("-")[0]
    known = {one.metadata["Name"] for one in importlib.metadata.distributions()}
    return _plain(name) in set(map(_plain, filter(None, known)))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        for wheel in sorted(Path(folder).rglob("*.whl")):
            if not is_installed(wheel):
                print(wheel)
