"""What the step `clean` reads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.corpora.config import Corpora
from trainers.corpora.reading import sources
from trainers.corpora.steps.clean_parts import parts_of

SOURCES = {"web": {"dataset": "some/where"}, "left": {"path": "left.txt", "repeat": 0}}


def job(tmp_path: Path) -> Any:
    corpora = Corpora.model_validate({"sources": SOURCES})
    draft = Draft(Storage.at(str(tmp_path)), "corpus/demo-shard-0a", resumes=True)
    recipe = SimpleNamespace(corpora=corpora)
    return SimpleNamespace(recipe=recipe, draft=draft, storage=draft.storage, progress=Notes())


def test_a_run_that_goes_on_reads_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = iter(("a" * 40, "b" * 40))

    def moving(source: Any, key: str, tell: Any) -> list[sources.Part]:
        commit = next(commits)
        return [sources.Part(None, number, number + 1, commit) for number in range(2)]

    monkeypatch.setattr(sources, "parts", moving)
    first = job(tmp_path)
    found = parts_of(first, first.recipe.corpora.of_pretraining)
    assert [(part.name, part.source, part.origin.begin) for part in found] == [
        ("000000", "web", 0), ("000001", "web", 1)
    ]  # fmt: skip
    told = f"web: some/where as of {'a' * 40}; set this as its `revision` to keep it"
    assert first.progress.lines == [told]
    again = job(tmp_path)
    assert parts_of(again, again.recipe.corpora.of_pretraining) == found
    first.storage.delete(first.draft.work)
    assert parts_of(first, first.recipe.corpora.of_pretraining)[0].origin.commit == "b" * 40
