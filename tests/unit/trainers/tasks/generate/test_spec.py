"""What a recipe of `task: generate` may say, and its rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError
from cluster.recipe.loading import load
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.tasks.generate.spec import Generate

RECIPE = """\
name: sums
corpora: {sources: {rows: {path: rows.jsonl, repeat: 0}, texts: {path: texts.txt}}}
finetune: {task: generate, base: some/model}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"document": f"text {n}", "summary": f"sum {n}"}) for n in range(40)]
    Path("rows.jsonl").write_text("\n".join(lines), "utf-8")
    Path("texts.txt").write_text("\n".join(f"Text number {n}." for n in range(900)), "utf-8")
    Path("recipe.yaml").write_text(RECIPE, "utf-8")


def checked(*overrides: str) -> Any:
    return load("recipe.yaml", overrides, check_files=True)


def test_columns_of_well_known_sets_are_found() -> None:
    source = checked().corpora.example_sources(checked())["rows"]
    assert source.columns["prompt"] == "document"
    assert source.columns["completion"] == "summary"


@pytest.mark.parametrize("instruction", ["Summarize.", "{prompt} and {prompt}"])
def test_an_instruction_has_one_place_for_the_prompt(instruction: str) -> None:
    with pytest.raises(RecipeError, match=r"finetune\.instruction: has \{prompt\} once, found"):
        checked(f"finetune.instruction={instruction!r}")


def test_an_encoder_decoder_has_no_chat_template() -> None:
    scratch = "pretrain={objective: span_corruption, model: {architecture: t5}}"
    keys = ["finetune.base=null", "finetune.max_length=64", scratch]
    assert checked(*keys).pretrain is not None
    with pytest.raises(RecipeError, match=r"finetune\.prompt_format: an encoder-decoder has no ch"):
        checked(*keys, "finetune.prompt_format=chat")


def test_virtual_tokens_are_refused_where_they_have_no_place() -> None:
    scratch = "pretrain={objective: span_corruption, model: {architecture: t5, max_positions: 64}}"
    keys = ["finetune.base=null", "finetune.max_length=64", "corpora.sequence_length=64", scratch]
    with pytest.raises(
        RecipeError, match=r"method: prefix is not for encoder-decoders yet; take p"
    ):
        checked(*keys, "finetune.method={name: prefix, tokens: 4}")
    assert checked(*keys, "finetune.method=prompt").finetune.adapter
    keys[-1] = scratch.replace("span_corruption", "causal_lm").replace("t5", "llama")
    with pytest.raises(
        RecipeError, match=r"max_length: 64 behind method\.tokens = 4 is over pretr"
    ):
        checked(*keys, "finetune.method={name: prompt, tokens: 4}")


def test_what_is_empty_is_counted() -> None:
    task = Generate()
    assert str(task.problem_of({"prompt": "a", "completion": " \n"})) == "an empty completion"
    assert task.problem_of({"prompt": "a", "completion": "b"}) is None


def test_texts_keep_their_layout() -> None:
    clean = Normalizer(Clean(), Counts())
    row = {"prompt": "a:\n\n  b\u200b", "completion": "  x²\n\n  y "}
    assert Generate().cleaned(row, clean) == {"prompt": "a:\n\n  b", "completion": "x²\n\n  y"}
