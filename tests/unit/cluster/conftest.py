from pathlib import Path
from typing import Any

import pytest

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import published


@pytest.fixture(params=["local", "remote"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """A workspace in a folder, and one behind a URI, which goes the ways of an object store."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where the cache of remote folders is
    scheme = "file://" if request.param == "remote" else ""
    (tmp_path / "workspace").mkdir()
    return Storage.at(f"{scheme}{tmp_path / 'workspace'}")


@pytest.fixture
def three(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    """Two models of the recipe `demo`, the older one last by name, and one of `other`."""
    made = []
    for day, artifact_id in enumerate(
        ("model/demo-finetune-ff", "model/demo-finetune-00", "model/other-finetune-11"), start=1
    ):
        clock = _Clock(day)
        monkeypatch.setattr(artifacts.datetime, "datetime", clock)
        made.append(published(storage, artifact_id, inputs={"seed": day}))
    return made


class _Clock:
    """Stands for `datetime.datetime`: it is the given day."""

    def __init__(self, day: int):
        self._day = day

    def now(self, _: Any) -> "_Clock":
        return self

    def isoformat(self, timespec: str) -> str:
        return f"2026-01-{self._day:02}T00:00:00+00:00"
