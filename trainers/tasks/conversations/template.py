"""A tokenizer's chat template: what it makes of messages, with nothing of them lost.

White space at the ends of a message may go, as the templates of Llama 3 and Gemma have it: they do
that to what a model is asked, too. All else that a message says must be there. What was thought
before an answer must be where the answer is learned, and may be gone later.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
from jinja2 import meta

from cluster.errors import UserError
from cluster.recipe.section import nearest
from trainers.tasks.conversations.messages import Message, as_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEY, KWARGS = "finetune.template", "finetune.chat_template_kwargs"
MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""The tags of a mark, which are Transformers' own."""
GIVEN = (
    *("messages", "tools", "documents", "add_generation_prompt"),
    *("raise_exception", "strftime_now"),
)
"""Variables of a conversation, and functions, that Transformers gives a template by itself."""
WRITTEN = re.compile(r"\{% set (\w+) = .*? \+%\}")
"""How `with_variables` sets a variable at the beginning of a template."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""What templates call the reasoning of a message."""

SPECIAL = "the name of a special token in a message"
CONTENT = "the template leaves out what a message says"
REASONING = "the template leaves out reasoning"
CALLS = "the template leaves out a call of a tool"
TOOLS = "the template leaves out tools"
REFUSED = "the template refuses it"
UNFINISHED = "the template does not end an answer"


class NotRendered(Exception):
    """Why a conversation is not learned or asked, in words by which such rows are counted."""


class Turn(NamedTuple):
    """An answer at the end of a conversation: `ids[begin:end]`, its end of turn included, where
    `ids[:begin]` ask for it."""

    ids: list[int]
    begin: int
    end: int


class ChatTemplate:
    """The chat template of a tokenizer that has one. Its methods raise NotRendered."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast"):
        self._tokenizer = tokenizer
        named: Any = tokenizer.chat_template  # a text, or several by name
        written = (
            named if isinstance(named, str) else "\n".join(named[name] for name in sorted(named))
        )
        self.has_marks = MARKS.search(written) is not None
        """Whether it marks what an assistant says, by `{% generation %}`."""
        self._reasoning_keys = [
            key for key in REASONING_KEYS if re.search(rf"\b{key}\b", written) is not None
        ]
        added = tokenizer.added_tokens_decoder
        self.added = {token.content: id_ for id_, token in added.items()}
        self._added_ids = frozenset(added)
        special = sorted((token.content for token in added.values() if token.special), key=len)
        self._special = re.compile("|".join(map(re.escape, special[::-1])) or r"(?!)")

    def text(
        self, messages: Sequence[Message], tools: str | None = None, asks: bool = False
    ) -> str:
        """The text of a conversation, with the generation prompt where it `asks` for an answer."""
        for one in messages:
            said = (one["content"], one["reasoning"], one["tool_calls"], tools or "")
            if any(map(self._special.search, said)):
                raise NotRendered(SPECIAL)
        text: str = self._applied(messages, tools, tokenize=False, add_generation_prompt=asks)
        for one in messages:
            if not _is_in(_lasting(one), text):
                raise NotRendered(CONTENT)
            if not all(_is_in(name, text) for name in _names(one["tool_calls"])):
                raise NotRendered(CALLS)
        if not all(_is_in(name, text) for name in _names(tools)):
            raise NotRendered(TOOLS)
        return text

    def ids(self, text: str) -> list[int]:
        """The token ids of a text that the template made, as `apply_chat_template` has them."""
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=False)
        ids: list[int] = encoded["input_ids"]
        return ids

    def turn(self, messages: Sequence[Message], tools: str | None = None) -> Turn | None:
        """The last message as the answer to those before; None where no model would write it so
        when it is asked, for it does not begin where its prompt ends, or its first characters are
        of one token with that."""
        asked = self.text(messages[:-1], tools, asks=True)
        text = self.text(messages, tools)
        if not text.startswith(asked):
            return None
        if not _is_in(messages[-1]["reasoning"].strip(), text[len(asked) :]):
            raise NotRendered(REASONING)
        prompt, ids = self.ids(asked), self.ids(text)
        if ids[: len(prompt)] != prompt:
            return None
        end = self._end_of_turn(ids)
        if end <= len(prompt):
            raise NotRendered(UNFINISHED)
        return Turn(ids, len(prompt), end)

    def marks(self, messages: Sequence[Message], tools: str | None = None) -> list[bool]:
        """Whether the template marks each token id of a conversation."""
        encoded = self._applied(
            messages,
            tools,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"split_special_tokens": False},
        )
        return [bool(mark) for mark in encoded["assistant_masks"]]

    def _end_of_turn(self, ids: list[int]) -> int:
        """The place behind the last added token, if only white space follows it; else 0."""
        end = len(ids)
        while end and ids[end - 1] not in self._added_ids:
            end -= 1
        behind: Any = self._tokenizer.decode(ids[end:], clean_up_tokenization_spaces=False)
        return 0 if behind.strip() else end

    def _applied(self, messages: Sequence[Message], tools: str | None, **how: Any) -> Any:
        schemas = json.loads(tools) if tools else None
        try:
            try:
                said = [self._as_template_has_it(one) for one in messages]
                return self._tokenizer.apply_chat_template(said, tools=schemas, **how)
            except TypeError:  # DeepSeek's want the arguments of a call as JSON
                said = [self._as_template_has_it(one, as_json) for one in messages]
                return self._tokenizer.apply_chat_template(said, tools=schemas, **how)
        except (jinja2.TemplateError, TypeError) as error:
            raise NotRendered(f"{REFUSED}: {error}") from error

    def _as_template_has_it(
        self, one: Mapping[str, Any], written: Callable[[Any], Any] = dict
    ) -> dict[str, Any]:
        """A message as in OpenAI's API, where what is empty is not there."""
        said: dict[str, Any] = {"role": one["role"], "content": one["content"]}
        if one["reasoning"]:
            said |= dict.fromkeys(self._reasoning_keys, one["reasoning"])
        if one["tool_calls"]:
            said["tool_calls"] = json.loads(one["tool_calls"])
            for call in said["tool_calls"]:
                call["function"]["arguments"] = written(call["function"]["arguments"])
        return said | {key: one[key] for key in ("tool_call_id", "name") if one[key]}


def read_template(path: str | None) -> str | None:
    """The text of a template's file. Raises UserError."""
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{KEY}: cannot read {path!r}: {error}") from error


def with_variables(template: Any, values: Mapping[str, bool | int | float | str]) -> Any:
    """A template, or several by name, in which these variables have these values, whatever it is
    called with. Raises UserError for a variable that it does not read."""
    if not values or not template:
        return template
    given = template if isinstance(template, dict) else {"": template}
    named = {name: _unset(text, values.keys()) for name, text in given.items()}
    read = {name for text in named.values() for name in _variables(text)} - {*GIVEN}
    for name in values.keys() - read:
        raise UserError(
            f"{KWARGS}.{name}: the chat template reads no such variable, or sets it itself; it "
            f"reads {', '.join(sorted(read)) or 'none'}{nearest(name, read)}"
        )
    # As JSON, in which Jinja writes these, too; `+` keeps a line break behind.
    written = (f"set {name} = {as_json(value)}" for name, value in sorted(values.items()))
    head = "".join(f"{{% {one} +%}}" for one in written)
    made = {name: head + text for name, text in named.items()}
    return made if isinstance(template, dict) else made[""]


def _unset(template: str, names: Collection[str]) -> str:
    """A template without the values that a training before set of these variables."""
    kept, place = [], 0
    while (one := WRITTEN.match(template, place)) is not None:
        place = one.end()
        if one[1] not in names:
            kept.append(one[0])
    return "".join(kept) + template[place:]


def _variables(template: str) -> set[str]:
    """What a template reads and does not set itself. Raises UserError for one that is damaged."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        tree = environment.parse(GENERATION.sub("", template))
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{KEY}: line {error.lineno}: {error}") from error
    return {*meta.find_undeclared_variables(tree)} - environment.globals.keys()


def _lasting(one: Message) -> str:
    """What a template keeps of a message however it rewrites history: all but what was thought."""
    return one["content"].rpartition("</think>")[2].strip()


def _names(functions: str | None) -> list[str]:
    """The names of tools, or of those that are called."""
    return [one["function"].get("name", "") for one in json.loads(functions)] if functions else []


def _is_in(part: str, text: str) -> bool:
    """Whether a text has a part, as it is or as JSON has it."""
    return part in text or json.dumps(part, ensure_ascii=False)[1:-1] in text
