"""A recipe that cannot be is refused in words, before anything runs."""

from pathlib import Path

import pytest

from cluster.errors import RecipeError
from cluster.recipe import loading
from trainers.tasks.ner.spec import Ner

RECIPE = """\
name: names
corpora: {sources: {news: {path: news.jsonl, columns: {entities: entities}}}}
finetune: {task: ner, base: some/model, max_length: 64}
serve: {gate: {span_f1: 0.8}}
"""


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)


def test_its_section_is_one_of_the_recipe() -> None:
    finetune = loading.load("recipe.yaml").finetune
    assert isinstance(finetune, Ner)
    assert (finetune.head, finetune.headline, finetune.max_windows) == ("tags", "span_f1", 8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("finetune.stride=33", r"finetune\.stride: 33 is over half of max_length = 64"),
        ("finetune.head=crf", r"finetune\.head: .*'tags' or 'spans'"),
        ("finetune.labels=[a, a]", r"finetune\.labels: each only once"),
        ("finetune.multi_label=true", r"finetune\.multi_label: unknown key"),
        ("serve.gate={accuracy: 0.5}", r"serve\.gate\.accuracy: no such metric"),
        ("serve.gate={span_f1: 80}", r"serve\.gate\.span_f1: span F1 is a number from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loading.load("recipe.yaml", [setting])
