"""Tiny bases to put adapters into."""

from pathlib import Path

import pytest

from tests.adapters import bases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base of each kind, which is its name."""
    folder = tmp_path_factory.mktemp("bases")
    bases(folder)
    return folder
