"""Of the wheels in some folders, those whose package is not installed, or is older: what an image
has that is no older stays as it is. Prints their paths.

    python tests/gpu/missing.py FOLDER...
"""

import importlib.metadata
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version


def missing(wheels: Iterable[Path], installed: Mapping[str, Version]) -> Iterator[Path]:
    """`installed` has canonical names. Pure."""
    for wheel in wheels:
        name, version, *_ = parse_wheel_filename(wheel.name)
        if name not in installed or installed[name] < version:
            yield wheel


def installed() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for one in importlib.metadata.distributions():
        if one.metadata["Name"]:  # else what an uninstallation has left
            found.setdefault(canonicalize_name(one.metadata["Name"]), Version(one.version))
    return found


if __name__ == "__main__":
    folders = map(Path, sys.argv[1:])
    wheels = [wheel for folder in folders for wheel in sorted(folder.rglob("*.whl"))]
    print(*missing(wheels, installed()), sep="\n")
