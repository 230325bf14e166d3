"""What a user may call an artifact, and what is told where that says too little."""

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from cluster.store.lookup import differences, lookup, placed, taken
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
    path = f"other/{made.id}"
    assert placed(path, "mill") == (storage, path), "the workspace that is given counts"


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


def test_the_newest_is_told_with_what_sets_it_apart(
    storage: Storage, three: list[Artifact]
) -> None:
    older, newest, _ = three
    assert taken("demo", older) == f"demo: takes {older.id}, made 2026-01-01 00:00 UTC"
    assert taken("demo", newest) == (
        f"demo: takes {newest.id}, made 2026-01-02 00:00 UTC, the newest of 2; "
        "unlike the one before: seed 2 (was 1)"
    )


def model(storage: Storage, name: str, base: Artifact, **finetune: Any) -> Artifact:
    inputs = {"seed": 1, "finetune": finetune}
    return published(
        storage, f"model/demo-finetune-{name}", parents={"pretrain": base.id}, inputs=inputs
    )


def test_what_two_artifacts_were_made_with_differs_also_in_their_ancestors(
    storage: Storage,
) -> None:
    bases = [
        published(
            storage, f"model/demo-pretrain-0{n}", inputs={"seed": 1, "pretrain": {"epochs": n}}
        )
        for n in (1, 2)
    ]
    before = model(storage, "0a", bases[0], rate=0.1, labels=["x" * 50], workers=1)
    now = model(storage, "0b", bases[1], rate=0.2, workers=1)
    assert differences(before, now) == {
        "pretrain.epochs": ("1", "2"),
        "finetune.rate": ("0.1", "0.2"),
        "finetune.labels": (f"['{'x' * 50}']", "none"),
    }
    assert taken("demo", now).endswith(f"finetune.labels none (was ['{'x' * 35}...)")
    storage.delete(bases[0].id)
    assert differences(before, now)["pretrain"] == (bases[0].id, bases[1].id)


def test_of_many_differences_a_few_are_told(storage: Storage) -> None:
    base = published(storage, "model/demo-pretrain-00")
    model(storage, "0a", base, **dict.fromkeys("abcdef", 1))
    now = model(storage, "0b", base, **dict.fromkeys("abcdef", 2))
    assert taken("demo", now).endswith("finetune.d 2 (was 1), 2 more")
