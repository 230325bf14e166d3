"""What is finished is not done again by the next run, and what failed is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from cluster.errors import InfrastructureError, RaymillError, UserError
from cluster.store.artifacts import Draft
from cluster.store.storage import CACHE, Storage
from tests.fakes import Notes
from trainers.corpora.steps import parallel
from trainers.corpora.steps.document_file import DocumentFile


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Items are mapped here, one after the other."""
    storage = Storage.at(str(tmp_path))
    monkeypatch.setattr(
        parallel,
        "_mapped",
        lambda job, items, function: ((name, function(name, items[name])) for name in items),
    )
    draft = Draft(storage, "corpus/demo-shard-0a", resumes=True)
    return SimpleNamespace(storage=storage, draft=draft, progress=Notes())


def test_items_are_done_once_over_several_runs(job: Any) -> None:
    done: list[str] = []
    kills = iter([True])

    def square(name: str, item: int) -> int:
        if item == 3 and next(kills, False):
            raise KeyboardInterrupt
        done.append(name)
        return item * item

    items = {str(number): number for number in range(6)}
    with pytest.raises(KeyboardInterrupt):
        list(parallel.each(job, "square", items, square, "numbers squared"))
    found = dict(parallel.each(job, "square", items, square, "numbers squared"))
    assert found == {name: item * item for name, item in items.items()}
    assert sorted(done) == sorted(items)
    assert job.progress.lines == ["goes on after 3 of 6 numbers squared"]
    assert dict(parallel.each(job, "other", items, square, "numbers squared")) == found, (
        "steps are told apart"
    )
    assert len(done) == 12


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WorkerCrashedError(), "corpora: a worker died more often than"),
        (OutOfMemoryError("killed"), "with less corpora.concurrency if memory was short: killed"),
        (RayTaskError("look", "", UserError("news.txt:2: not UTF-8")), "^news.txt:2: not UTF-8$"),
        (RayTaskError("look", "", OSError(28, "No space left")), "^/mill: No space left"),
    ],
)
def test_what_ended_a_task_is_told_as_what_it_was(
    error: RayError, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    cluster = SimpleNamespace(max_failures_per_hour=3)
    job: Any = SimpleNamespace(
        recipe=SimpleNamespace(cluster=cluster), storage=SimpleNamespace(root="/mill")
    )
    with pytest.raises(RaymillError, match=told):
        parallel._result(job, None)


def test_a_full_disk_names_the_place() -> None:
    told = parallel._storage_failure(OSError(28, "No space left on device"), "/mill")
    assert isinstance(told, InfrastructureError)
    assert str(told).startswith("/mill: No space left on device; free space")
    assert "mend the disk" in str(
        parallel._storage_failure(OSError(5, "Input/output error"), "/mill")
    )


def test_a_cache_that_is_too_small_names_the_knob(tmp_path: Path) -> None:
    evicted = CACHE.expanduser() / "files" / "abc"
    for opened in (np.load, DocumentFile):
        with pytest.raises(FileNotFoundError) as caught:
            opened(evicted)
        told = parallel._storage_failure(caught.value, "s3://mill")
        assert str(told).startswith("cluster.cache_gb: too little for what tasks read at a time")
