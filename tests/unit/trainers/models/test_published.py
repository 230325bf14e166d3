from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.models.published import evaluations_on_test, refuse_damaged, refuse_other_bytes


def test_evaluations_on_files_are_none_on_the_test_split(tmp_path: Path) -> None:
    storage, of = Storage.at(str(tmp_path)), {"finetune": "model/demo-finetune-0a"}
    for name, parents in (("evaluate-0a", of), ("data-0b", of), ("evaluate-0c", {"finetune": "x"})):
        published(storage, f"evaluation/demo-{name}", parents=parents)
    evaluations = evaluations_on_test(storage, "model/demo-finetune-0a")
    assert [one.version for one in evaluations] == ["0a"]


def test_a_model_is_damaged_where_a_file_has_another_size(tmp_path: Path) -> None:
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-0a", {"weights": "seven77"})
    refuse_damaged(model, model.id)
    (model.path / "weights").write_text("cut")
    with pytest.raises(UserError, match="is damaged: weights has 3 bytes, should have 7"):
        refuse_damaged(model, model.id)


def test_files_of_other_bytes_are_told_also_at_the_same_size(tmp_path: Path) -> None:
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-0a", {"weights": "seven77"})
    refuse_other_bytes(model.path)
    (model.path / "weights").write_text("seven78")
    with pytest.raises(UserError, match="0a is damaged: weights has other bytes than it was made"):
        refuse_other_bytes(model.path)
    (model.path / "weights").unlink()
    with pytest.raises(UserError, match="0a is damaged: weights is not there"):
        refuse_other_bytes(model.path)


def test_a_manifest_from_elsewhere_says_nothing_of_bytes(tmp_path: Path) -> None:
    refuse_other_bytes(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": ["weights"]}')
    refuse_other_bytes(tmp_path)
