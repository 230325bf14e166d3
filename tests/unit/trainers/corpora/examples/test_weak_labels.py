"""Rules that cannot be are refused with the recipe, at their line."""

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load, override
from cluster.recipe.section import Recipe
from trainers.corpora.config import refuse_relative
from trainers.corpora.reading.sources import content_hash

RECIPE = """\
name: weak
corpora:
  sources:
    gold: {path: gold.csv, columns: {label: label}}
    raw:
      path: raw.txt
      weak_labels:
        functions:
          praise: {label: good, path: praise.txt}
          blame: {label: bad, pattern: 很差|太差}
        vote: label_model
finetune: {base: some/model}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"很好{number},good\n" for number in range(5))
    Path("gold.csv").write_text(f"text,label\n{rows}", "utf-8")
    for name in ("raw.txt", "praise.txt"):
        Path(name).write_text("很好\n", "utf-8")
    content_hash.cache_clear()


def edited(old: str = "", new: str = "") -> Recipe:
    assert old in RECIPE
    Path("weak.yaml").write_text(RECIPE.replace(old, new, 1), "utf-8")
    return load("weak.yaml")


def examples(recipe: Recipe) -> Any:
    """What the stage depends on."""
    return recipe.corpora.examples(recipe)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "很差|太差",
            "'很差(太差'",
            "weak.yaml:10: corpora.sources.raw.weak_labels.functions.blame.pattern: no regular "
            "expression: missing ), unterminated subpattern at position 2, found '很差(太差'",
        ),
        ("很差|太差", "'(很差)?'", "blame.pattern: is found in every text, found '(很差)?'"),
        (
            ", path: praise.txt",
            "",
            "weak.yaml:9: corpora.sources.raw.weak_labels.functions.praise: give `lexicon`, `path` "
            "or `pattern`, one of them",
        ),
        ("path: praise.txt", "lexicon: []", "functions.praise.lexicon: "),
        ("path: praise.txt", "lexicon: [好, ' ']", "functions.praise.lexicon: a word is empty"),
        ("label_model", "label_modle", "weak.yaml:11: corpora.sources.raw.weak_labels.vote: "),
        (
            "vote: label_model",
            "min_probability: 0.9",
            "weak_labels.min_probability: goes with `vote: label_model`",
        ),
        ("path: raw.txt", "path: raw.txt\n      label: x", "sources.raw: give `label`, `colu"),
        ("columns: {label: label}", "label: a, label_map: {a: b}", "gold.label_map: goes "),
        ("columns: {label: label}", "label_map: {1: 2}", "label_map.1: expected text"),
        ("columns: {label: label}", "columns: {label: null}, split: test",
         "gold.split: is for labelled documents"),
        ("columns: {label: label}", "columns: {label: null, group: a}",
         "gold.columns.group: is for labelled documents"),
        ("columns: {label: label}", "columns: {label: null}",
         "corpora.sources: all labelled documents are for training"),
        ("{label: label}", "{label: label}, split: dev", "must be 'train', 'validation', 'test' "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        edited(old, new)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_lexicon_that_is_not_there_is_refused() -> None:
    recipe = edited()
    assert list(recipe.corpora.faults(recipe)) == []
    Path("praise.txt").unlink()
    ((key, message),) = recipe.corpora.faults(recipe)
    assert key == "corpora.sources.raw.weak_labels.functions.praise.path"
    assert message.startswith("no file matches 'praise.txt'")


def test_a_relative_lexicon_is_refused_for_another_machine() -> None:
    recipe = edited()
    sources = {f"corpora.sources.{name}.path": f"s3://b/{name}.txt" for name in ("gold", "raw")}
    with pytest.raises(UserError, match=r"functions\.praise\.path: 'praise\.txt' is relative"):
        refuse_relative(override(recipe, sources))


def test_a_changed_lexicon_is_another_labelling() -> None:
    before = examples(edited())
    Path("praise.txt").write_text("满意\n", "utf-8")
    content_hash.cache_clear()
    assert examples(edited()) != before


@pytest.mark.parametrize(
    ("key", "value", "depends"),
    [
        ("clean.languages", ["zh"], False),
        ("clean.quality", {}, False),
        ("clean.repetition", {"max_character_run": 9}, False),
        ("clean.mask", ["phone"], True),
        ("clean.max_characters", 50, True),
        ("deduplicate.similarity", 0.5, True),
        ("tokenizer.vocabulary_size", 999, False),
    ],
)
def test_labelled_documents_depend_on_what_they_go_through(
    key: str, value: Any, depends: bool
) -> None:
    before = edited()
    after = override(before, {f"corpora.{key}": value})
    assert (examples(after) != examples(before)) is depends
    assert after.corpora.identity() != before.corpora.identity()
