"""Files that installed Python packages ship."""

import importlib.util
from pathlib import Path


def package_folder(package: str) -> Path | None:
    """The folder of a package by the name that Python imports; None where it is not installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # absent, or no name of a package at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
