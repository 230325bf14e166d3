"""One choice of an answer: the engine's tokens, as text of several channels."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from serving.generation.engine import Writing
from serving.generation.speech import Call, Speech, call_of
from serving.generation.text import Detokenizer
from trainers.tasks.writing.sampling import Drawn

Finish = Literal["stop", "length", "tool_calls"]


@dataclasses.dataclass(frozen=True)
class Delta:
    """What is new of a choice."""

    content: str = ""
    reasoning: str = ""
    calls: Sequence[Call] = ()
    drawn: Sequence[Drawn] = ()
    """The tokens that it was made of, or that came before it became text."""
    finish: Finish | None = None


async def deltas(
    writing: Writing, detokenizer: Detokenizer, speech: Speech | None
) -> AsyncIterator[Delta]:
    """The last one has `finish`; the answer is closed with it."""
    has_calls = False
    drawn: list[Drawn] = []
    async for step in writing:
        drawn.append(step.drawn)
        text, finish = "", step.finish_reason
        if finish != "stop":
            piece = detokenizer.add(step.drawn.token)
            text = piece.text
            finish = "stop" if piece.is_stopped else finish
            if finish == "length":
                text += detokenizer.end()
        else:
            text = detokenizer.end()
        delta = _told(text, speech, finish is not None)
        has_calls = has_calls or bool(delta.calls)
        if finish is not None:
            writing.close()
            # Calls that the answer's end cut off are not whole: the reason stays `length`.
            ended: Finish = "tool_calls" if has_calls and finish == "stop" else finish
            yield dataclasses.replace(delta, drawn=drawn, finish=ended)
            return
        if delta != Delta():
            yield dataclasses.replace(delta, drawn=drawn)
            drawn = []


def _told(text: str, speech: Speech | None, is_end: bool) -> Delta:
    if speech is None:
        return Delta(content=text)
    said = speech.add(text) if text else []
    said += speech.end() if is_end else []
    content, reasoning, calls = [], [], []
    for channel, one in said:
        call = call_of(one) if channel == "call" else None
        if call is not None:
            calls.append(call)
        elif channel == "reasoning":
            reasoning.append(one)
        else:  # what was meant for a call and is none, as it is
            content.append(one)
    return Delta("".join(content), "".join(reasoning), tuple(calls))
