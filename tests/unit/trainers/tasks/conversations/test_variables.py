"""Variables of a chat template: set in the template that is saved, so that all compute the same."""

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load
from tests.conversations import CHATML, CONVERSATIONS, QWEN_3_5, TOYS, toy_tokenizer
from tests.objectives import start
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.conversations.template import NotRendered, with_variables

SINGLE = CONVERSATIONS["single"]
ROW = {"messages": SINGLE.messages, "tools": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = toy_tokenizer(TOYS["Qwen 3"])
    tokenizer.chat_template = QWEN_3_5
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def task(folder: Path, **variables: Any) -> ChatTask:
    settings = Chat.model_validate({"chat_template_kwargs": variables, "max_length": 64})
    return ChatTask(settings, None, start("llama"), str(folder))


def test_rows_without_reasoning_are_learned_where_nothing_asks_for_it(folder: Path) -> None:
    with pytest.raises(NotRendered, match=r"finetune\.chat_template_kwargs: {enable_thinking: f"):
        task(folder).render(ROW)
    of = task(folder, enable_thinking=False)
    (made,) = of.render(ROW).sequences
    learned = [id_ for id_, flag in zip(made["input_ids"], made["learned"], strict=True) if flag]
    assert of.loaded_tokenizer.decode(learned) == "A mill.<|im_end|>"


def test_whatever_asks_the_saved_model_has_the_ids_of_training(folder: Path) -> None:
    of = task(folder, enable_thinking=False)
    prompt = of.renderer.prompt(SINGLE.messages[:1])
    (made,) = of.render(ROW).sequences
    assert made["input_ids"][: len(prompt)] == prompt
    of.tokenizer().save_pretrained(folder / "model")
    saved: Any = tokenizers.load(folder / "model")
    for given in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        asked = saved.apply_chat_template(
            SINGLE.said[:1], add_generation_prompt=True, return_dict=False, **given
        )
        assert asked == prompt
    before = toy_tokenizer(TOYS["Qwen 3"])
    asked = before.apply_chat_template(
        SINGLE.said[:1],
        chat_template=QWEN_3_5,
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=False,
    )
    assert asked == prompt


@pytest.mark.parametrize("value", [True, 3, 0.5, 'a "quoted" 红👩‍🚀\n\\line'])
def test_a_value_is_what_was_given(value: Any) -> None:
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    made = environment.from_string(with_variables("\n{{ x }}|{{ x is string }}", {"x": value}))
    assert made.render(x="other") == f"\n{value}|{isinstance(value, str)}"


def test_each_of_several_templates_has_it() -> None:
    named = {"default": QWEN_3_5, "tool_use": CHATML}
    made = with_variables(named, {"enable_thinking": False})
    begin = "{% set enable_thinking = false +%}"
    assert made == {name: f"{begin}{text}" for name, text in named.items()}


@pytest.mark.parametrize(
    ("template", "name", "told"),
    [
        (QWEN_3_5, "enable_thinkin", r"reads enable_thinking; did you mean 'enable_thinking'\?"),
        (CHATML, "enable_thinking", "reads none"),
        (QWEN_3_5, "messages", "no such variable"),
        ("{% set enable_thinking = true %}" + QWEN_3_5, "enable_thinking", "no such variable"),
    ],
)
def test_a_variable_that_would_do_nothing_is_refused(template: str, name: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"finetune\.chat_template_kwargs\.{name}: .*{told}"):
        with_variables(template, {name: False})


def test_a_damaged_template_is_told_with_its_line() -> None:
    with pytest.raises(UserError, match=r"finetune\.template: line 2: "):
        with_variables("{{ x }}\n{% if %}", {"x": 1})


def test_plain_prompts_have_no_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(
        "name: r\ncorpora: {sources: {x: {path: x.jsonl}}}\n"
        "finetune: {task: generate, base: some/model, chat_template_kwargs: {thinks: false}}\n"
    )
    with pytest.raises(RecipeError, match="chat_template_kwargs: goes with prompt_format: chat"):
        load("r.yaml")
    made = load("r.yaml", ["finetune.prompt_format=chat"]).finetune
    assert made.chat_template_kwargs == {"thinks": False}
    assert made.render_inputs(load("r.yaml", ["finetune.prompt_format=chat"]))[
        "chat_template_kwargs"
    ] == {"thinks": False}


def test_a_training_that_goes_on_may_set_them_again(folder: Path) -> None:
    task(folder, enable_thinking=False).tokenizer().save_pretrained(folder)
    again, other = task(folder, enable_thinking=False), task(folder, enable_thinking=True)
    template: Any = again.loaded_tokenizer.chat_template
    assert template == with_variables(QWEN_3_5, {"enable_thinking": False})
    assert other.loaded_tokenizer.chat_template == with_variables(
        QWEN_3_5, {"enable_thinking": True}
    )
