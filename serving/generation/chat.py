"""POST /v1/chat/completions."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import ValidationError

from cluster.errors import UserError
from serving.generation.answer import Answer
from serving.generation.answers import chat_logprobs, tool_call
from serving.generation.errors import Refused, explained_value
from serving.generation.grammar import Grammars
from serving.generation.models import Served
from serving.generation.requests import ChatRequest, NamedTool
from serving.generation.speech import MARKS, Speech
from serving.generation.text import Detokenizer
from serving.generation.writing import Delta, deltas
from trainers.tasks.chat.predictor import ChatPredictor, Conversation
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.writing.batcher import Asked
from trainers.tasks.writing.sampling import Grammar

KEYS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning")
)
"""Of a message. What clients send back of an answer has further ones, which are null."""


class ChatAnswer(Answer[ChatRequest]):
    prefix = "chatcmpl"
    prompt_key = "messages"

    def __init__(
        self,
        request: ChatRequest,
        served: Served,
        context: int,
        grammars: "GrammarsOf",
    ):
        """Raises Refused."""
        super().__init__(request, served, _prompt(request, served), context)
        self._choices = [
            self.asked(choice, _grammar(request, served, grammars)) for choice in range(request.n)
        ]

    def choices_asked(self) -> list[Asked]:
        return self._choices

    def deltas(self, choice: int) -> AsyncIterator[Delta]:
        predictor = self.served.predictor
        assert isinstance(predictor, ChatPredictor), "others were refused"
        template = str(self.tokenizer.chat_template)
        has_tools = bool(self.request.tools) and self.request.tool_choice != "none"
        speech = Speech(template, predictor.renderer.asks_for_reasoning, has_tools)
        detokenizer = Detokenizer(self.tokenizer, self.request.stops)
        return deltas(self.writings[choice], detokenizer, speech)

    async def whole(self) -> dict[str, Any]:
        made = await self.choices()
        return {
            **self.head("chat.completion"),
            "choices": [self._choice(place, of_choice) for place, of_choice in enumerate(made)],
            "usage": self.usage(sum(len(delta.drawn) for one in made for delta in one)),
        }

    def _finish(self, delta: Delta) -> str | None:
        """As OpenAI has it: a call by name is what was asked for, and so just the end."""
        is_named = isinstance(self.request.tool_choice, NamedTool)
        return "stop" if is_named and delta.finish == "tool_calls" else delta.finish

    def _choice(self, place: int, made: Sequence[Delta]) -> dict[str, Any]:
        content = "".join(delta.content for delta in made)
        reasoning = "".join(delta.reasoning for delta in made).rstrip()
        calls = [tool_call(call) for delta in made for call in delta.calls]
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message |= {"tool_calls": calls, "content": content.strip() or None}
        drawn = [one for delta in made for one in delta.drawn]
        return {
            "index": place,
            "message": message,
            "logprobs": chat_logprobs(drawn, self.tokenizer),
            "finish_reason": self._finish(made[-1]),
        }

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        head = self.head("chat.completion.chunk")
        null_usage = {"usage": None} if self.request.has_usage else {}
        calls, tokens = [0] * self.request.n, 0
        for choice in range(self.request.n):
            first = _chunk(choice, {"role": "assistant", "content": ""})
            yield {**head, "choices": [first], **null_usage}
        async for choice, delta in self.mixed():
            tokens += len(delta.drawn)
            said = _said(delta, calls[choice])
            calls[choice] += len(delta.calls)
            logprobs = chat_logprobs(delta.drawn, self.tokenizer)
            yield {
                **head,
                "choices": [_chunk(choice, said, self._finish(delta), logprobs)],
                **null_usage,
            }
        if self.request.has_usage:
            yield {**head, "choices": [], "usage": self.usage(tokens)}


def _said(delta: Delta, calls: int) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if delta.content:
        said["content"] = delta.content
    if delta.reasoning:
        said["reasoning_content"] = delta.reasoning
    if delta.calls:
        said["tool_calls"] = [tool_call(call, calls + n) for n, call in enumerate(delta.calls)]
    return said


def _chunk(
    choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None
) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _prompt(request: ChatRequest, served: Served) -> list[int]:
    """The ids that ask for an answer, as in training. Raises Refused."""
    predictor = served.predictor
    if not isinstance(predictor, ChatPredictor):
        raise Refused(
            400,
            f"{served.name} was trained without a chat template; ask it by POST /v1/completions",
            "model",
        )
    for place, message in enumerate(request.messages):
        for key, value in message.items():
            if key not in KEYS and value is not None:
                where = f"messages.{place}.{key}"
                raise Refused(400, f"{where}: there is no such key", where, "unknown_parameter")
    is_told = request.tools and request.tool_choice != "none"
    tools = [tool.model_dump(exclude_none=True) for tool in request.tools or ()] if is_told else []
    try:
        asked = Conversation.model_validate({"messages": request.messages, "tools": tools})
        return predictor.prompt(asked)
    except (ValidationError, NotRendered) as error:
        told = error if isinstance(error, ValueError) else ValueError(str(error))
        raise explained_value(told, "messages") from error


class GrammarsOf:
    """The grammars of each tokenizer that was asked for one."""

    def __init__(self) -> None:
        self._known: dict[str, Grammars] = {}

    def of(self, served: Served) -> Grammars:
        """Raises UserError where xgrammar is not installed."""
        if served.version not in self._known:
            predictor = served.predictor
            size = predictor.model.config.get_text_config().vocab_size
            made = Grammars(predictor.tokenizer, size, [*predictor.stop_ids])
            self._known[served.version] = made
        return self._known[served.version]


def _grammar(request: ChatRequest, served: Served, grammars: GrammarsOf) -> Grammar | None:
    wanted = request.response_format
    is_json = wanted is not None and wanted.type != "text"
    if is_json and request.must_call:
        raise Refused(400, "response_format does not go with a call that must come", "tool_choice")
    try:
        if request.must_call:
            return _calls(request, served, grammars)
        if not is_json:
            return None
        assert wanted is not None
        schema = {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_
        return grammars.of(served).of_json(schema)
    except ValueError as error:
        key = "tools" if request.must_call else "response_format.json_schema.schema"
        raise explained_value(error, key) from error
    except UserError as error:
        key = "tool_choice" if request.must_call else "response_format"
        raise Refused(400, f"{key}: {error}", key) from error


def _calls(request: ChatRequest, served: Served, grammars: GrammarsOf) -> Grammar:
    begin, end = MARKS["call"]
    if begin not in str(served.predictor.tokenizer.chat_template):
        raise Refused(
            400,
            f"tool_choice: the chat template of {served.name} has no calls of tools that are known "
            f"here, which stand between {begin} and {end}",
            "tool_choice",
        )
    tools = {tool.function.name: tool.function.parameters for tool in request.tools or ()}
    if isinstance(request.tool_choice, NamedTool):
        name = request.tool_choice.function.name
        if name not in tools:
            known = ", ".join(tools)
            raise Refused(400, f"tool_choice: no tool {name}; there are {known}", "tool_choice")
        tools = {name: tools[name]}
    several = request.parallel_tool_calls and request.tool_choice == "required"
    return grammars.of(served).of_calls(tools, begin, end, several)
