"""A trained assistant that answers conversations."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, model_validator

from trainers.corpora.cleaning.rules import mend
from trainers.corpora.reading.formats.rows import Problem
from trainers.tasks.conversations.messages import (
    ASSISTANT,
    USER,
    Message,
    message,
    problem_of_messages,
    said_by,
    tools_of,
)
from trainers.tasks.conversations.renderer import NotRendered, Rendered, Renderer
from trainers.tasks.conversations.rows import conversation
from trainers.tasks.encoding import Encoded
from trainers.tasks.writing.predictor import Truth, WritingPredictor, learned_of


class Conversation(BaseModel):
    messages: list[Message]
    """Up to the one that is to be answered, in the spelling of any data set; a text is what a user
    says. `prompt`, with `input` and `system`, is another name for them, as in rows to learn."""
    tools: Annotated[str, BeforeValidator(tools_of)] = ""
    """JSON of tools that the assistant may call."""

    @model_validator(mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        """An answer at the end, as rows to learn have it, is not read."""
        if not isinstance(value, Mapping):
            return value
        forms = {role: value[role] for role in ("messages", "prompt") if role in value}
        said = {role: said_by(USER)(one) for role, one in forms.items()}
        if not said or not all(isinstance(one, list) for one in said.values()):
            return value
        asked = conversation({"completion": [], **value, **said})
        while asked and asked[-1]["role"] == ASSISTANT:
            asked = asked[:-1]
        return {"messages": asked, "tools": value.get("tools") or ""}

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        problem = problem_of_messages([*self.messages, message(ASSISTANT, "an answer")])
        if problem is not None:
            raise ValueError(str(problem))
        return self


class ChatPredictor(WritingPredictor):
    Input: ClassVar[Any] = Conversation
    inputs: ClassVar[str] = "conversations"
    head: ClassVar[str] = "AutoModelForCausalLM"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        self.renderer = Renderer(tokenizer)
        super().__init__(card, tokenizer, model)

    @property
    def stop_ids(self) -> Sequence[int]:
        return self.renderer.stop_ids

    def problem_of(self, value: Conversation) -> Problem | None:
        try:
            self.prompt(value)
        except NotRendered as error:
            return Problem(str(error))
        return None

    def encode(self, inputs: Sequence[Conversation]) -> list[Encoded]:
        return [self.read(self.prompt(one)) for one in inputs]

    def prompt(self, value: Conversation) -> list[int]:
        """The ids that ask for the next answer, however many. Raises NotRendered."""
        said = [one | {"content": mend(one["content"], self.clean)} for one in value.messages]
        return self.renderer.prompt(said, value.tools)  # type: ignore[arg-type]

    def input_of(self, row: Mapping[str, Any]) -> Conversation:
        return Conversation.model_validate(row)

    def truth(self, row: Mapping[str, Any]) -> Truth:
        *asked, last = row["messages"]
        prompt = self.renderer.prompt(asked, row["tools"])
        try:
            rendered = self.renderer.render(row["messages"], row["tools"])
        except NotRendered:  # nothing of it stands as a model would write it, to be learned
            rendered = Rendered(prompt, [False] * len(prompt))
        ids, begin = rendered.input_ids, len(prompt)
        has_answer = len(ids) > begin and ids[:begin] == prompt
        gold = self.text_of(ids[begin:]) if has_answer else last["content"]
        return Truth(_as_text(asked), gold, learned_of(rendered))


def _as_text(messages: Sequence[Message]) -> str:
    """A conversation for people: what one message says; of several, also who says it."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{one['role']}: {one['content']}" for one in messages)
