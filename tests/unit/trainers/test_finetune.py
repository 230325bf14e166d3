"""What fine-tuning starts from, and with which settings."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.recipe.loading import load, override
from cluster.recipe.section import Recipe
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import folder_of_package, published
from trainers.finetune import task

RECIPE = """\
name: demo
corpora: {sources: {x: {path: x.txt, label: y}}}
pretrain: {model: {hidden_size: 64}}
finetune: {learning_rate: 1e-4, dropout: 0.2, max_length: 32}
tune: {space: {finetune.learning_rate: {log_uniform: [1e-4, 1e-3]}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load(tmp_path / "recipe.yaml")


@pytest.fixture
def parents(tmp_path: Path) -> dict[str, Artifact]:
    storage = Storage.at(str(tmp_path / "mill"))
    return {
        "examples": published(
            storage, "examples/demo-examples-00", {"labels.json": '["bad", "good"]'}
        ),
        "pretrain": published(storage, "model/demo-pretrain-00"),
    }


def test_the_classifier_starts_from_what_was_pretrained(
    recipe: Recipe, parents: dict[str, Artifact]
) -> None:
    made = task(recipe, parents)
    folder = str(parents["pretrain"].path)
    assert (made.start.base, made.start.shape, made.tokenizer_folder) == (folder, None, folder)
    assert (made.settings.max_length, made.settings.dropout) == (32, 0.2)


def test_from_scratch_it_has_the_shape_but_not_the_weights(
    recipe: Recipe, parents: dict[str, Artifact]
) -> None:
    made = task(recipe, parents, scratch=True)
    assert (made.start.base, made.start.shape) == (None, recipe.pretrain.model)
    assert made.tokenizer_folder == str(parents["pretrain"].path)


def test_one_like_a_model_in_a_package_has_that_ones_folder(
    recipe: Recipe,
    parents: dict[str, Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder_of_package(tmp_path, "with_a_model", {"config.json": "{}"})
    monkeypatch.syspath_prepend(tmp_path)
    keys = {"pretrain.model": None, "pretrain.like": "package:with_a_model"}
    made = task(override(recipe, keys), parents, scratch=True)
    assert made.start.like == str(tmp_path / "with_a_model")


def test_a_base_of_the_recipe_is_used(recipe: Recipe, parents: dict[str, Artifact]) -> None:
    from_base = override(recipe, {"pretrain": None, "finetune.base": "some/model"})
    del parents["pretrain"]
    assert task(from_base, parents).start.base == "some/model"


def test_the_labels_of_the_recipe_have_its_order(
    recipe: Recipe, parents: dict[str, Artifact]
) -> None:
    assert task(recipe, parents).labels == ["bad", "good"]
    ordered = override(recipe, {"finetune.labels": ["good", "fair", "bad"]})
    assert task(ordered, parents).labels == ["good", "fair", "bad"]


def test_a_label_outside_those_of_the_recipe_is_refused(
    recipe: Recipe, parents: dict[str, Artifact]
) -> None:
    """Also where the examples were made under another list."""
    with pytest.raises(
        UserError, match=r"00: label 'bad' is not in finetune\.labels \(good, fair\)"
    ):
        _ = task(override(recipe, {"finetune.labels": ["good", "fair"]}), parents).labels


def test_a_base_of_the_workspace_is_used_by_its_folder(
    recipe: Recipe, parents: dict[str, Artifact]
) -> None:
    chained = override(recipe, {"pretrain": None, "finetune.base": "demo"})
    base = parents.pop("pretrain")
    assert task(chained, {**parents, "base": base}).start.base == str(base.path)
