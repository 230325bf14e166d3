"""From a conversation to token ids, by the chat template of the tokenizer: what a model is trained
on is what it is asked with later, id by id.

    prompt(messages[:k])      the ids that ask for message k: history and generation prompt
    render(messages)          the ids of the whole conversation, with what of them is learned

An answer is learned from where its prompt ends up to its end of turn: it is what differs between
the ids of the conversation up to the answer and those of its prompt. Where the template marks what
an assistant says, by `{% generation %}`, only what is marked is learned, and the end of turn,
without which a model never stops. Places decide, never ids: so it does not matter if the end of
turn is also what rows are padded with.

An answer is learned only where it stands as the model would write it. Some templates rewrite
history: Qwen3 and DeepSeek-R1 leave out what was thought before earlier answers, and Qwen3 writes
an empty thought before the last answer alone. An answer that is rewritten is context and is not
learned there, since no model is asked to write it so; `sequences` teaches it all the same, by a
further sequence that ends with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cluster.errors import UserError
from trainers.tasks.conversations.messages import ASSISTANT, Message
from trainers.tasks.conversations.probes import probed
from trainers.tasks.conversations.template import KEY, KWARGS, UNFINISHED, ChatTemplate, NotRendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REWRITTEN = "no answer stands as the model would write it"
WITHOUT_REASONING = (
    f"no reasoning, which the template asks for ({KWARGS}: {{enable_thinking: false}} may change "
    "that)"
)
NO_TEMPLATE = (
    f"{KEY}: the tokenizer has no chat template; name a file with one, such as that of a model "
    "with this vocabulary that was trained on instructions, or start from such a model"
)


class Rendered(NamedTuple):
    """Token ids, and of each whether it is a target."""

    input_ids: list[int]
    learned: list[bool]
    rewritten: int = 0
    """Answers that were to be learned and are not, since the template rewrites them."""


class Renderer:
    """Renders by a tokenizer and its chat template. Raises UserError for a template by which
    conversations cannot be learned, with its fault."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast"):
        if not tokenizer.chat_template:
            raise UserError(NO_TEMPLATE)
        self._template = ChatTemplate(tokenizer)
        self._ends, self.asks_for_reasoning = probed(self._template)
        """Whether its prompts begin reasoning, so that no answer without is learned."""
        end_of_text = tokenizer.eos_token_id
        self.stop_ids: tuple[int, ...] = tuple(
            dict.fromkeys([*self._ends, *([] if end_of_text is None else [end_of_text])])
        )
        """What ends an answer: the template's ends of turn, and the tokenizer's end of text."""

    def prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids that ask for the next answer. Raises NotRendered."""
        return self._template.ids(self._template.text(messages, tools, asks=True))

    def render(self, messages: Sequence[Message], tools: str | None = None) -> Rendered:
        """A conversation as one sequence. Raises NotRendered where nothing of it is learned."""
        rendered, left = self._render(messages, tools, _answers(messages))
        if not any(rendered.learned):
            raise NotRendered(self._why_nothing(messages))
        return rendered._replace(rewritten=len(left))

    def sequences(self, messages: Sequence[Message], tools: str | None = None) -> list[Rendered]:
        """A conversation as the sequences that teach each of its answers once: one, or several
        where the template rewrites history; the first one counts the answers that are in none.
        Raises NotRendered where nothing of it is learned."""
        found, lost = [], 0
        left = _answers(messages)
        while left:
            last = left[-1]
            rendered, rewritten = self._render(messages[: last + 1], tools, left)
            if any(rendered.learned):
                found.append(rendered)
            lost += last in rewritten
            left = [place for place in rewritten if place != last]
        if not found:
            raise NotRendered(self._why_nothing(messages))
        return [found[0]._replace(rewritten=lost), *found[1:]]

    def _why_nothing(self, messages: Sequence[Message]) -> str:
        has_reasoning = any(one["reasoning"] for one in messages)
        return WITHOUT_REASONING if self.asks_for_reasoning and not has_reasoning else REWRITTEN

    def _render(
        self, messages: Sequence[Message], tools: str | None, answers: Sequence[int]
    ) -> tuple[Rendered, list[int]]:
        """The conversation with the answers at these places learned, and the places of those that
        the template rewrites."""
        ids = self._template.ids(self._template.text(messages, tools))
        has_marks = self._template.has_marks
        marks = self._template.marks(messages, tools) if has_marks else [True] * len(ids)
        learned, rewritten = [False] * len(ids), []
        for place in answers:
            turn = self._template.turn(messages[: place + 1], tools)
            if turn is None or ids[: turn.end] != turn.ids[: turn.end]:
                rewritten.append(place)
                continue
            if ids[turn.end - 1] not in self._ends:
                raise NotRendered(UNFINISHED)
            learned[turn.begin : turn.end] = [*marks[turn.begin : turn.end - 1], True]
        return Rendered(ids, learned), rewritten


def _answers(messages: Sequence[Message]) -> list[int]:
    """Places of the answers that are to be learned."""
    return [
        place for place, one in enumerate(messages) if one["role"] == ASSISTANT and one["train"]
    ]
