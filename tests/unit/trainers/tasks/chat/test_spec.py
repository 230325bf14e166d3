"""What a recipe of `task: chat` may say."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load, warnings
from cluster.store.storage import Storage
from tests.chats import TEMPLATE, dialogue
from tests.fakes import published

RECIPE = """\
name: talk
corpora: {sources: {rows: {path: rows.jsonl, repeat: 0}, texts: {path: texts.txt}}}
finetune: {task: chat, base: base, template: chat.jinja}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (json.dumps(dialogue(number)) for number in range(40))
    Path("rows.jsonl").write_text("\n".join(lines), "utf-8")
    Path("texts.txt").write_text("\n".join(f"Text number {n}." for n in range(900)), "utf-8")
    Path("chat.jinja").write_text(TEMPLATE, "utf-8")
    Path("base").mkdir()
    Path("base/config.json").write_text("{}", "utf-8")
    Path("base/tokenizer_config.json").write_text("{}", "utf-8")
    Path("recipe.yaml").write_text(RECIPE, "utf-8")


def checked(*overrides: str) -> Any:
    return load("recipe.yaml", overrides, check_files=True)


def test_a_plain_one_is_valid() -> None:
    assert checked().finetune.is_rendered
    assert checked().finetune.max_length == 1024


def test_a_base_without_a_template_is_told() -> None:
    with pytest.raises(RecipeError, match=r"finetune\.base: the tokenizer of 'base' has no chat"):
        checked("finetune.template=null")
    Path("base/tokenizer_config.json").write_text('{"chat_template": "x"}', "utf-8")
    assert checked("finetune.template=null").finetune.template is None


def test_a_model_from_scratch_needs_a_template() -> None:
    scratch = ["pretrain={objective: causal_lm, model: {architecture: llama}}"]
    scratch += ["finetune.base=null", "finetune.max_length=64"]
    assert checked(*scratch).pretrain is not None
    with pytest.raises(RecipeError, match=r"finetune\.template: the tokenizer of a model from scr"):
        checked(*scratch, "finetune.template=null")


@pytest.mark.parametrize(
    ("clean", "tokenizer", "is_told"),
    [("{}", "{}", True), ("{unicode: NFC}", "{}", False), ("{}", "{base: base}", False)],
)
def test_a_tokenizer_that_loses_what_is_written_is_told(
    clean: str, tokenizer: str, is_told: bool
) -> None:
    scratch = ["pretrain={objective: causal_lm, model: {architecture: llama}}"]
    scratch += ["finetune.base=null", "finetune.max_length=64"]
    recipe = checked(*scratch, f"corpora.clean={clean}", f"corpora.tokenizer={tokenizer}")
    told = [line for line in warnings(recipe) if line.startswith("corpora.clean.unicode: NFKC is")]
    assert len(told) == is_told


def test_rows_without_a_text_are_not_pretrained_on() -> None:
    scratch = ["pretrain={objective: causal_lm, model: {architecture: llama}}"]
    scratch += ["finetune.base=null", "finetune.max_length=64", "corpora.sources.rows.repeat=1"]
    with pytest.raises(
        RecipeError, match=r"rows\.repeat: its rows are for chat, .*'text'.*; set 0"
    ):
        checked(*scratch)


def test_a_template_that_is_not_there_is_told() -> None:
    with pytest.raises(RecipeError, match=r"finetune\.template: no such file 'chat\.jnja'"):
        checked("finetune.template=chat.jnja")


def test_a_model_that_reads_both_sides_does_not_suit_it() -> None:
    with pytest.raises(RecipeError, match=r"chat needs pretrain\.objective: causal_lm"):
        checked("pretrain={model: {}}", "finetune.base=null", "finetune.max_length=64")


def test_a_base_is_a_model_that_writes(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    of = {task: {"finetune": {"task": task}} for task in ("classify", "generate")}
    sorter = published(storage, "model/sorter-finetune-01", inputs=of["classify"])
    with pytest.raises(UserError, match=r"was fine-tuned to classify; chat needs a model that wri"):
        checked().finetune.refuse_base(sorter)
    rows = {"render": "rows/writer-render-01"}
    writer = published(storage, "model/writer-finetune-01", inputs=of["generate"], parents=rows)
    checked().finetune.refuse_base(writer)


def test_dropout_is_no_key_of_it() -> None:
    with pytest.raises(RecipeError, match=r"finetune\.dropout: a model for chat has no head with"):
        checked("finetune.dropout=0.2")


def test_a_gate_of_its_endpoint_can_name_its_figures() -> None:
    assert checked("serve={gate: {perplexity: 30}}").serve.gate == {"perplexity": 30}
    with pytest.raises(RecipeError, match=r"serve\.gate\.reward_accuracy: "):
        checked("serve={gate: {reward_accuracy: 0.7}}")


def test_what_rows_become_depends_on_the_template_not_on_the_rate() -> None:
    recipe = checked()
    before = recipe.finetune.render_inputs(recipe)
    faster = checked("finetune.learning_rate=1e-5")
    assert faster.finetune.render_inputs(faster) == before
    Path("chat.jinja").write_text(TEMPLATE.replace("[CLS]", "[CLS]\n"), "utf-8")
    changed = checked()
    assert changed.finetune.render_inputs(changed) != before


@pytest.mark.parametrize("key", ["max_length", "template"])
def test_a_search_keeps_what_rows_become(key: str) -> None:
    with pytest.raises(RecipeError, match=rf"tune\.space\.finetune\.{key}: .* all trials share it"):
        checked(f"tune={{space: {{finetune.{key}: {{choice: [64, 128]}}}}}}")


def test_a_split_of_what_has_no_rows_of_the_task_is_told() -> None:
    Path("plain.jsonl").write_text('{"text": "A text."}\n', "utf-8")
    plain = "corpora.sources.plain={path: plain.jsonl, split: test}"
    with pytest.raises(
        RecipeError, match=r"plain\.split: is for rows of finetune, and this source"
    ):
        checked(plain)
    with pytest.raises(RecipeError, match=r"corpora\.sources: all rows are for training: give so"):
        checked("corpora.sources.rows.split=train")


def test_columns_of_no_form_are_told_with_the_forms() -> None:
    Path("rows.jsonl").write_text('{"question": "Who?", "reply": "I."}\n', "utf-8")
    with pytest.raises(
        RecipeError,
        match=r"sources.rows: finetune needs rows with messages, or prompt and completion; .*"
        "found question, reply",
    ):
        checked("corpora.sources={rows: {path: rows.jsonl}}")
