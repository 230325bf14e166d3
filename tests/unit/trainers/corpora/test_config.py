"""Which sources are examples, and what their artifact depends on."""

import json
from pathlib import Path
from typing import Any, Literal

import datasets
import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load
from cluster.recipe.section import Recipe
from trainers.corpora.config import refuse_relative
from trainers.corpora.reading import readers
from trainers.tasks.classify.spec import Classify

RECIPE = """\
name: demo
corpora:
  sources:
    rows: {path: rows.jsonl}
    plain: {path: plain.txt}
finetune: {base: some/model}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(9)]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    Path("plain.txt").write_text("plain\n")


def sources(recipe: Recipe) -> dict[str, Any]:
    """The columns of sources of examples."""
    return {name: each.wanted for name, each in recipe.corpora.example_sources(recipe).items()}


def test_a_source_says_by_its_columns_that_it_is_one_of_examples() -> None:
    assert sources(load("recipe.yaml")) == {"rows": {"text": "text", "label": "label"}}
    assert sources(load("recipe.yaml", ["finetune=null"])) == {}
    named = "corpora.sources.rows.columns={label: label}"
    assert set(sources(load("recipe.yaml", ["finetune=null", named]))) == {"rows"}
    official = "corpora.sources.rows.split=test"
    assert set(sources(load("recipe.yaml", ["finetune=null", official]))) == {"rows"}
    with pytest.raises(RecipeError, match=r"corpora\.sources: finetune needs labels"):
        load("recipe.yaml", ["corpora.sources.rows.columns={label: null}"])


def test_so_do_those_of_parquet_and_of_datasets_on_disk() -> None:
    rows = [{"text": "one", "label": "a", "group": 3}]
    table = datasets.Dataset.from_list(rows)
    table.save_to_disk("saved")
    table.to_parquet("rows.parquet")
    for origin in ("dataset: saved", "path: rows.parquet", "path: rows.parquet, split: test"):
        recipe = load("recipe.yaml", [f"corpora.sources.rows={{{origin}}}"])
        assert sources(recipe)["rows"] == {"text": "text", "label": "label", "group": "group"}


def test_files_that_are_not_there_yet_have_no_labels() -> None:
    Path("rows.jsonl").unlink()
    assert sources(load("recipe.yaml")) == {}


def test_what_is_remote_is_looked_at_by_a_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(source: Any, wanted: Any) -> Any:
        assert source.path is not None
        assert not source.path.startswith("s3"), "looked at"
        return ["text"]

    monkeypatch.setattr(readers, "first_columns", look)
    remote = "corpora.sources.rows.path=s3://bucket/rows.jsonl"
    recipe = load("recipe.yaml", [remote])
    assert [*recipe.corpora.faults(recipe)] == []
    with pytest.raises(AssertionError, match="looked at"):
        recipe.corpora.example_sources(recipe)


def test_examples_depend_on_what_the_task_asks_of_rows() -> None:
    def examples(*overrides: str) -> Any:
        recipe = load("recipe.yaml", overrides)
        return recipe.corpora.examples(recipe)

    assert examples() == examples("finetune.learning_rate=1e-4")
    assert examples() != examples("finetune.multi_label=true")
    assert examples() != examples("corpora.sources.rows.columns={text: label}")


class Other(Classify):
    """Has the columns of classification, and might clean them in another way."""

    task: Literal["other"] = "other"  # type: ignore[assignment]


def test_rows_of_another_task_are_other_rows_though_its_columns_are_equal() -> None:
    recipe = load("recipe.yaml")
    other = recipe.model_copy(update={"finetune": Other(base="some/model")})
    before, after = (each.corpora.examples(each) for each in (recipe, other))
    assert before["columns"] == after["columns"]
    assert before != after


def test_fine_tuning_that_is_added_later_finds_the_examples_of_pretraining() -> None:
    named = "corpora.sources.rows.columns={label: label}"
    recipes = [load("recipe.yaml", [named, *more]) for more in ([], ["finetune=null"])]
    examples, of_pretraining = (each.corpora.examples(each) for each in recipes)
    assert examples == of_pretraining


ELSEWHERE = "corpora.sources={rows: {path: s3://bucket/rows.jsonl, label: a}}"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["workspace=mill"], "workspace: 'mill'"),
        (["finetune.base=own"], "finetune.base: 'own'"),
        (["corpora.tokenizer.base=./own"], "corpora.tokenizer.base: './own'"),
        (["finetune=null", "pretrain={like: own}"], "pretrain.like: 'own'"),
        (["corpora.sources.rows={dataset: own, label: a}"], "corpora.sources.rows.dataset: 'own'"),
        (
            ["finetune=null", "pretrain={base: own}", "corpora.tokenizer.base=own"],
            "pretrain.base: 'own'",
        ),
    ],
)
def test_a_relative_path_is_refused_for_another_machine(overrides: list[str], told: str) -> None:
    Path("own").mkdir()
    with pytest.raises(UserError) as caught:
        refuse_relative(load("recipe.yaml", [ELSEWHERE, *overrides]))
    assert str(caught.value) == (
        f"{told} is relative to this folder, which the cluster does not see; give a URI, or a path "
        "that every node has"
    )


@pytest.mark.parametrize("base", ["some/model", "model/demo-finetune-00", "demo-base", "/models/a"])
@pytest.mark.parametrize("workspace", ["~/.raymill", "/workspace", "s3://bucket/mill"])
def test_what_another_machine_knows_is_not_refused(base: str, workspace: str) -> None:
    Path("model/demo-finetune-00").mkdir(parents=True)  # here is the workspace
    refuse_relative(load("recipe.yaml", [ELSEWHERE, f"finetune.base={base}"], workspace))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["slices=[score]"],
            r"rows\.slices.*rows have a column 'score' by themselves; give it another",
        ),
        (["slices=[shop, shop]"], r"rows\.slices.*each only once"),
        (["columns={shop: label}"], r"rows\.columns\.shop.*a row has group, label, text"),
        (["slices=[shop]", "columns={label: null}"], r"rows\.slices.*is for labelled documents"),
    ],
)
def test_slices_that_cannot_be_are_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load("recipe.yaml", [f"corpora.sources.rows.{each}" for each in overrides])


def test_a_slice_may_not_be_called_as_a_column_of_the_task() -> None:
    Path("ner.yaml").write_text("name: demo\ncorpora: {sources: {rows: {path: rows.jsonl}}}\n"
        "finetune: {task: ner, base: some/model}\n")  # fmt: skip
    with pytest.raises(RecipeError, match="'entities' is a column of the task"):
        load("ner.yaml", ["corpora.sources.rows.slices=[entities]"])


def test_a_slice_that_a_file_lacks_is_refused_by_its_key() -> None:
    Path("rows.csv").write_text("text,label,store\nfine,good,A\nbad,bad,B\n")
    overrides = ["corpora.sources.rows.path=rows.csv", "corpora.sources.rows.slices=[shop]"]
    with pytest.raises(RecipeError, match=r"rows\.slices.*no column 'shop'"):
        load("recipe.yaml", overrides, check_files=True)
    load("recipe.yaml", [*overrides, "corpora.sources.rows.columns={shop: store}"])


def test_a_slice_that_no_row_has_is_told_with_the_nearest() -> None:
    rows = [{"text": f"text {n}", "label": n % 2, "shop": "A"} for n in range(3)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, [{"text": "a"}, *rows])))
    mistyped = ["corpora.sources.rows.path=rows.jsonl", "corpora.sources.rows.slices=[shopp]"]
    with pytest.raises(
        RecipeError, match=r"rows\.slices: no column 'shopp': set as `slices`.*'shop'"
    ):
        load("recipe.yaml", mistyped, check_files=True)
