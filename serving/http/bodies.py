"""How the body of a request is read: JSON in UTF-8, up to a limit. All else is refused in words."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json", re.IGNORECASE)
MOST_KEYS = 100
"""Of an object: to name each unknown one of a million would take half a minute."""


def in_words(detail: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


class BodyLimit:
    """ASGI middleware. A request whose body is over the limit is answered before it is held: by
    the length that it declares, or where it grows over it. HEAD is answered as GET is."""

    def __init__(
        self,
        app: ASGIApp,
        limit_megabytes: float,
        answer: Callable[[str, int], JSONResponse] = in_words,
    ):
        """`answer` makes a refusal of a sentence and a status."""
        self._app, self._answer = app, answer
        self._limit_megabytes = limit_megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, received = int(self._limit_megabytes * 1e6), 0
        over = (
            f"the body is over serve.max_request_megabytes = {self._limit_megabytes:g}; send fewer "
            "texts"
        )
        headers = Headers(scope=scope)
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            detail = f"Content-Encoding: {encoding} is not read here; send a plain body"
            await self._answer(detail, 415)(scope, receive, send)
            return
        if int(headers.get("content-length", 0)) > limit:
            await self._answer(over, 413)(scope, receive, send)
            return

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, over)
            return message

        if scope["method"] == "HEAD":  # the server sends no body then
            scope = {**scope, "method": "GET"}
        await self._app(scope, limited, send)


class JsonRequest(Request):
    """A request whose body FastAPI takes as JSON."""

    async def body(self) -> bytes:
        """Raises HTTPException where there is none, or it says that it is no JSON."""
        body = await super().body()
        if not body:
            raise HTTPException(422, "the body is empty; send a JSON object")
        kind = self.headers.get("content-type", "")
        if not JSON_TYPE.fullmatch(kind.partition(";")[0].strip()):
            known = f"not {kind}" if kind else "which this request does not name"
            raise HTTPException(415, f"send JSON, with Content-Type: application/json, {known}")
        return body

    async def json(self) -> Any:
        # In a thread: the event loop must go on.
        return await asyncio.to_thread(parse, await self.body())


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read


def parse(body: bytes) -> Any:
    """Raises HTTPException where the body is not JSON in UTF-8. Pure."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HTTPException(
            422,
            f"the body is not UTF-8, as JSON must be: byte 0x{body[error.start]:02x} at "
            f"{error.start}; encode it as UTF-8",
        ) from error
    try:
        document = from_json(text)
    except ValueError as error:
        problem = "nested too deep" if "recursion limit" in str(error) else "not JSON"
        raise HTTPException(422, f"the body is {problem}: {error}") from error
    if isinstance(document, dict) and len(document) > MOST_KEYS:
        raise HTTPException(422, f"the body has {len(document)} keys; few are known")
    return document
