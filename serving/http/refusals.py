"""What an endpoint refuses, and in what words: `{"detail": "..."}`, one sentence.

413   a body over `serve.max_request_megabytes`, which is read no further
422   a body that is not what was asked for
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHOWN_PROBLEMS = 5


class Refusal(BaseModel):
    detail: str


RESPONSES: dict[int | str, dict[str, Any]] = {413: {"model": Refusal}, 422: {"model": Refusal}}
"""For the schema of a route."""


class BodyLimit:
    """ASGI middleware. A request whose body is over the limit is answered before it is held: by
    the length that it declares, or where it grows over it."""

    def __init__(self, app: ASGIApp, limit_megabytes: float):
        self._app = app
        self._limit_megabytes = limit_megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_megabytes
        detail = f"the body is over serve.max_request_megabytes = {limit:g}; send fewer texts"
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit * 1e6:
            await JSONResponse({"detail": detail}, 413)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit * 1e6:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)


def explain(problems: Sequence[Mapping[str, Any]], known: Collection[str]) -> str:
    """Of pydantic's errors of a body that may have the keys `known`. Pure."""
    told = [_explain(problem, known) for problem in problems[:SHOWN_PROBLEMS]]
    more = len(problems) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])


def _explain(problem: Mapping[str, Any], known: Collection[str]) -> str:
    where = ".".join(map(str, problem["loc"][1:]))  # the first is `body`
    match problem["type"]:
        case "json_invalid":
            return f"the body is not JSON: {problem['ctx']['error']}, at character {where}"
        case "extra_forbidden":
            return f"{where}: unknown key; known: {', '.join(known)}"
        case "missing" if where:
            return f"{where}: missing"
        case _ if not where:
            return "the body is no JSON object; send one, with Content-Type: application/json"
        case _:
            return f"{where}: {problem['msg']}"
