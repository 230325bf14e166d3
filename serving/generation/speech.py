"""What an assistant writes, told apart as it comes: what it thinks, what it says, and calls of
tools, by the marks of its family of models.

    <think>reasoning</think>                                    Qwen 3, DeepSeek-R1, SmolLM 3
    <tool_call>{"name": ..., "arguments": {...}}</tool_call>    Hermes, Qwen 2.5 and 3, SmolLM 3
"""

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from serving.generation.text import overlap

Channel = Literal["content", "reasoning", "call"]
MARKS: dict[Channel, tuple[str, str]] = {
    "reasoning": ("<think>", "</think>"),
    "call": ("<tool_call>", "</tool_call>"),
}


class Said(NamedTuple):
    channel: Channel
    text: str
    """Of a call all of it, and of the others what is new."""


class Call(NamedTuple):
    name: str
    arguments: str
    """JSON."""


class Speech:
    """Tells the channels of one answer apart."""

    def __init__(self, template: str, asks_for_reasoning: bool, has_tools: bool):
        """Marks count where the chat template has them: others are text. `asks_for_reasoning`: the
        prompt has begun reasoning already."""
        self._known = {
            channel: marks
            for channel, marks in MARKS.items()
            if marks[0] in template and (channel != "call" or has_tools)
        }
        self._channel: Channel = "content"
        if asks_for_reasoning and "reasoning" in self._known:
            self._channel = "reasoning"
        self._text = ""
        """What has not come out yet."""
        self._is_new = True
        """Whether nothing of the channel has come out: white space at its beginning does not."""

    def add(self, text: str) -> list[Said]:
        self._text += text
        return [*self._told()]

    def end(self) -> list[Said]:
        """What is left: of a call that does not end, as text."""
        found, channel = [*self._told()], self._channel
        left, self._text = self._text, ""
        if channel == "call":
            return [*found, Said("content", MARKS["call"][0] + left)] if left else found
        return [*found, *self._piece(channel, left)]

    def _told(self) -> Iterator[Said]:
        while True:
            channel = self._channel
            marks = self._marks_now()
            places = {mark: self._text.find(mark) for mark in marks}
            first = min((place for place in places.values() if place >= 0), default=-1)
            if first < 0:
                keep = max((overlap(self._text, mark) for mark in marks), default=0)
                if channel != "call":
                    cut = len(self._text) - keep
                    yield from self._piece(channel, self._text[:cut])
                    self._text = self._text[cut:]
                return
            mark = next(mark for mark, place in places.items() if place == first)
            before, self._text = self._text[:first], self._text[first + len(mark) :]
            yield from [Said("call", before)] if channel == "call" else self._piece(channel, before)
            self._channel, self._is_new = marks[mark], True

    def _marks_now(self) -> dict[str, Channel]:
        """The marks that end the channel, and what comes behind each."""
        if self._channel != "content":
            return {MARKS[self._channel][1]: "content"}
        return {marks[0]: channel for channel, marks in self._known.items()}

    def _piece(self, channel: Channel, text: str) -> Iterator[Said]:
        text = text.lstrip() if self._is_new else text
        if text:
            self._is_new = False
            yield Said(channel, text)


def call_of(text: str) -> Call | None:
    """The call of a tool that an assistant has written, or None where it is no such. Pure."""
    try:
        written = json.loads(text)
        name, arguments = written["name"], written.get("arguments", {})
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return Call(name, json.dumps(arguments, ensure_ascii=False))
