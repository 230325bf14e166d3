import json
import shutil
from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.scoring.model import model_in_folder, model_of

CARD = {"raymill.json": json.dumps({"task": "classify"}), "model.safetensors": "weights"}
INPUTS = {"finetune": {"task": "classify", "max_length": 12}}


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def artifact() -> Artifact:
    parents = {"examples": "examples/demo-examples-0a"}
    name = "model/demo-finetune-0a"
    return published(Storage.at("mill"), name, CARD, parents=parents, inputs=INPUTS)


def test_a_model_of_no_task_is_refused() -> None:
    base = published(Storage.at("mill"), "model/demo-pretrain-00", CARD)
    with pytest.raises(UserError, match="is of the stage pretrain, no model of a task"):
        model_of(base)


@pytest.mark.parametrize(("text", "told"), [(None, "is not there"), ("cut", "has 3 bytes")])
def test_a_model_with_missing_or_cut_files_is_refused(
    artifact: Artifact, text: str | None, told: str
) -> None:
    file = artifact.path / "model.safetensors"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=f"is damaged: model.safetensors {told}, should have 7"):
        model_of(artifact)


def test_a_model_may_stand_in_a_plain_folder() -> None:
    folder = Path("mine")
    folder.mkdir()
    assert model_in_folder("mine") is None
    (folder / "raymill.json").write_text('{"task": "classify"}')
    found = model_in_folder("mine")
    assert found is not None
    assert (found.id, found.task) == (str(folder.absolute()), "classify")
    for text, told in (
        ("{", "is damaged"),
        ("{}", "no task 'None'"),
        ('{"task": "x"}', "no task 'x'"),
    ):
        (folder / "raymill.json").write_text(text)
        with pytest.raises(UserError, match=told):
            model_in_folder("mine")


def test_a_model_that_was_copied_out_of_its_workspace_is_what_it_was(artifact: Artifact) -> None:
    shutil.copytree(artifact.path, "elsewhere/copy")
    found = model_in_folder("elsewhere/copy", "other")
    assert found is not None
    ours = model_of(artifact)
    assert (found.id, found.name, found.hashes) == (ours.id, ours.name, ours.hashes)
    assert found.settings.max_length == 12
    assert found.workspace.root == str(Path("other").absolute())
    assert found.examples is None, "they stayed behind"
    examples = published(ours.workspace, "examples/demo-examples-0a")
    of_mill = model_in_folder("elsewhere/copy", "mill")
    assert of_mill is not None
    assert of_mill.examples == ours.examples == examples
    Path("elsewhere/copy/model.safetensors").write_text("cut")
    with pytest.raises(UserError, match=r"/elsewhere/copy is damaged: model.safetensors has 3 byt"):
        model_in_folder("elsewhere/copy")


def test_a_model_that_stands_in_its_workspace_is_none_of_a_plain_folder(artifact: Artifact) -> None:
    assert model_in_folder(str(artifact.path)) is None
    assert model_of(artifact).workspace == artifact.storage


def test_what_evaluation_must_know_of_a_model_is_in_its_manifest() -> None:
    Path("mine").mkdir()
    Path("mine/raymill.json").write_text('{"task": "classify"}')
    found = model_in_folder("mine")
    assert found is not None
    with pytest.raises(UserError, match=r"/mine: has no manifest.json, which says how it was fine"):
        _ = found.settings
