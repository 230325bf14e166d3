"""Answers in OpenAI's shapes, whole or in events of a stream. Pure."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from serving.generation.speech import Call
from trainers.tasks.writing.sampling import Drawn

DONE = "data: [DONE]\n\n"


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def event(body: Mapping[str, Any]) -> str:
    """Of server-sent events."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def tool_call(call: Call, place: int | None = None) -> dict[str, Any]:
    """`place` is that among the calls of an answer, which an event names."""
    numbered = {} if place is None else {"index": place}
    function = {"name": call.name, "arguments": call.arguments}
    return {**numbered, "id": new_id("call"), "type": "function", "function": function}


def chat_logprobs(drawn: Sequence[Drawn], tokenizer: Any) -> dict[str, Any] | None:
    """Of the tokens of an answer; None where none are told."""
    told = [
        {
            **_token(one.token, one.logprob, tokenizer),
            "top_logprobs": [_token(*top, tokenizer) for top in one.top],
        }
        for one in drawn
        if one.logprob is not None
    ]
    return {"content": told, "refusal": None} if told else None


def completion_logprobs(
    drawn: Sequence[Drawn], tokenizer: Any, offset: int
) -> dict[str, Any] | None:
    """As the older route has them; `offset` is where the first token is in the text."""
    told = [one for one in drawn if one.logprob is not None]
    if not told:
        return None
    tokens = [tokenizer.decode([one.token]) for one in told]
    offsets = [offset + sum(map(len, tokens[:place])) for place in range(len(tokens))]
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in told],
        "top_logprobs": [
            {tokenizer.decode([token]): value for token, value in one.top} for one in told
        ],
        "text_offset": offsets,
    }


def _token(token: int, logprob: float, tokenizer: Any) -> dict[str, Any]:
    text = tokenizer.decode([token])
    return {"token": text, "logprob": logprob, "bytes": [*text.encode()]}
