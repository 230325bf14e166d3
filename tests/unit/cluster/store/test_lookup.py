"""What a user may call an artifact, and what is told where that says too little."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from cluster.store.lookup import lookup, placed, taken
from cluster.store.storage import Storage
from tests.fakes import published


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("demo", "model/demo-finetune-00"),
        ("other", "model/other-finetune-11"),
        ("demo-finetune-ff", "model/demo-finetune-ff"),
        ("model/demo-finetune-ff", "model/demo-finetune-ff"),
    ],
    ids=["the newest of a recipe", "of another", "by name", "by id"],
)
def test_what_a_user_means_is_found(
    storage: Storage, three: list[Artifact], reference: str, expected: str
) -> None:
    assert lookup(storage, "model", reference).id == expected


def test_what_is_not_there_is_told_with_what_is(storage: Storage, three: list[Artifact]) -> None:
    with pytest.raises(
        UserError, match=r"dem: no such model in .*demo-finetune-ff.*other-finetune"
    ):
        lookup(storage, "model", "dem")
    with pytest.raises(UserError, match=r"demo: no such sweep in .*; newest: none yet"):
        lookup(storage, "sweep", "demo")


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_place_of_an_artifacts_folder_names_its_workspace_too(
    storage: Storage, three: list[Artifact], slash: str
) -> None:
    """As a shell completes it, or as raymill prints it."""
    found, reference = placed(f"{storage.root}/{three[0].id}{slash}", None)
    assert (found.root, reference) == (storage.root, three[0].id)
    assert placed(f"{storage.root}/{three[0].id}", storage.root) == (storage, three[0].id)
    assert lookup(found, "model", reference) == three[0]


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    made = published(storage, "model/demo-finetune-0a")
    for folder, path in (
        (tmp_path, f"mill/{made.id}"),
        (tmp_path / "mill", f"./{made.id}/"),
        (tmp_path / "mill" / "model", "demo-finetune-0a"),
        (tmp_path / "mill" / made.id, "."),
    ):
        monkeypatch.chdir(folder)
        assert placed(path, None) == (storage, made.id)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert placed(f"~/mill/{made.id}", None) == (storage, made.id)


def test_what_is_no_place_is_looked_up_in_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage.at("mill")
    for reference in ("demo", "model/demo-finetune-0a"):
        assert placed(reference, "mill") == (storage, reference)
    elsewhere = Storage.at("other")
    made = published(elsewhere, "model/demo-finetune-0a")
    with pytest.raises(UserError, match=r"is not in the workspace .*mill, .*, or name .*other$"):
        placed(f"other/{made.id}", "mill")
    monkeypatch.chdir(tmp_path / "other")
    mill = str(tmp_path / "mill")
    assert placed(made.id, mill) == (Storage.at(mill), made.id), "an id is looked up there"


def test_a_path_of_nothing_is_refused_with_what_is_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published(Storage.at("mill"), "model/demo-finetune-0a1b2c")
    for path in ("mill/model/demo-finetune-0a1b", "./mill/model/demo-finetune-0a1b2"):
        for workspace in (None, "mill"):
            with pytest.raises(UserError, match=r"folder; did you mean 'demo-finetune-0a1b2c'\?"):
                placed(path, workspace)
    for path in ("/nowhere/model/x", "~/x"):
        with pytest.raises(UserError, match="there is no artifact in such a folder"):
            placed(path, None)


def test_the_artifact_that_was_taken_is_told(three: list[Artifact]) -> None:
    newest = three[1]
    assert taken("demo", newest) == f"demo: takes {newest.id}, made 2026-01-02 00:00 UTC"
