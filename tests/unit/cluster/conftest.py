from pathlib import Path

import pytest

from cluster.storage import Storage


@pytest.fixture(params=["local", "remote"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """A workspace in a folder, and one behind a URI, which goes the ways of an object store."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where the cache of remote folders is
    scheme = "file://" if request.param == "remote" else ""
    (tmp_path / "workspace").mkdir()
    return Storage.at(f"{scheme}{tmp_path / 'workspace'}")
