"""What a recipe's `base` is: files here or in a package, a model of the workspace, or a hub id."""

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store import bases
from cluster.store.bases import base_folder, base_model, taken_for_hub_id
from cluster.store.storage import Storage
from tests.fakes import folder_of_package, published
from trainers.corpora.reading.sources import base_hash, missing_folders
from trainers.models import gguf

KEY = "finetune.base"


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_package(tmp_path, "shipped_model", {"config.json": "{}", "small.gguf": "bytes"})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("base", ["package:shipped_model", "package:shipped_model/small.gguf"])
def test_a_base_in_a_package_is_no_artifact_and_no_hub_id(tmp_path: Path, base: str) -> None:
    storage = Storage(str(tmp_path))
    assert base_model(storage, base, KEY, "recipe") is None
    assert taken_for_hub_id(storage, base) == ""
    assert [*missing_folders({KEY: base}, "config.json")] == []


def test_what_no_model_has_for_a_name_is_told_before_the_hub_is_asked(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    published(storage, "model/talk-finetune-00")
    (tmp_path / "folder").mkdir()
    for known in ("talk", "folder", "owner/model", None):
        assert taken_for_hub_id(storage, known) == ""
    told = taken_for_hub_id(storage, "nosuch")
    assert told == f"'nosuch' is no model in {storage.root}, and is looked for on the hub"
    assert "did you mean 'talk'?" in taken_for_hub_id(storage, "talks")


def test_a_shipped_recipe_without_a_model_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"made no model in .*; run `raymill run smollm-chat`"):
        base_model(Storage(str(tmp_path)), "smollm-chat", KEY, "recipe")


def test_files_of_a_base_are_found_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base_folder("package:shipped_model", {}) == str(tmp_path / "shipped_model")
    assert base_folder("owner/model", {}) == "owner/model"
    monkeypatch.setattr(gguf, "converted", lambda file: Path("/cache") / file.name)
    assert base_folder("package:shipped_model/small.gguf", {}) == "/cache/small.gguf"
    assert base_folder("shipped_model/small.gguf", {}) == "/cache/small.gguf"


def test_the_hash_of_a_gguf_file_follows_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "shipped_model" / "small.gguf"
    before = base_hash(str(file), KEY)
    assert base_hash("package:shipped_model/small.gguf", KEY) == before
    file.rename(tmp_path / "other.gguf")
    assert base_hash("other.gguf", KEY) == before
    (tmp_path / "other.gguf").write_text("other", encoding="utf-8")
    assert base_hash("other.gguf", KEY) != before


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("package:not_there/model", "the package 'not_there' is not installed"),
        ("package:shipped_model/none", "no such folder 'package:shipped_model/none'"),
        ("package:shipped_model/none.gguf", "no such file 'package:shipped_model/none.gguf'"),
        ("none.gguf", "no such file 'none.gguf'"),
    ],
)
def test_a_base_that_is_not_there_is_told(base: str, told: str) -> None:
    (conflict,) = missing_folders({KEY: base}, "config.json")
    assert (conflict.key, told in conflict.message) == (KEY, True)
    with pytest.raises(UserError, match=told):
        base_hash(base, KEY)


def test_gguf_needs_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = bases.package_folder
    assert found("shipped_model") is not None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (conflict,) = missing_folders({KEY: "shipped_model/small.gguf"})
    assert "pip install 'raymill[gguf]'" in conflict.message
