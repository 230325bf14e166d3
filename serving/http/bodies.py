"""How the body of a request is read: JSON in UTF-8, plain or gzip, up to a limit. All else is
refused in words."""

import asyncio
import re
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json", re.IGNORECASE)
GZIP = ("gzip", "x-gzip")
MOST_KEYS = 100
"""Of an object: to name each unknown one of a million would take half a minute."""


class BodyLimit:
    """ASGI middleware. A request whose body is over the limit is answered before it is held: by
    the length that it declares, or where it grows over it, compressed or not."""

    def __init__(self, app: ASGIApp, limit_megabytes: float):
        self._app = app
        self._limit_megabytes = limit_megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = int(self._limit_megabytes * 1e6)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        over = (
            f"the body is over serve.max_request_megabytes = {self._limit_megabytes:g}; send fewer "
            "texts"
        )
        declared, encoding = headers.get(b"content-length", ""), headers.get(b"content-encoding")
        if declared.isdigit() and int(declared) > limit:
            await JSONResponse({"detail": over}, 413)(scope, receive, send)
            return
        if encoding is not None and encoding.lower() not in (*GZIP, "identity"):
            detail = f"Content-Encoding: {encoding} is not read here; send gzip, or a plain body"
            answer = JSONResponse({"detail": detail}, 415, {"Accept-Encoding": "gzip"})
            await answer(scope, receive, send)
            return
        gzip = Gzip() if encoding is not None and encoding.lower() in GZIP else None
        received = decoded = 0

        async def limited() -> Message:
            nonlocal received, decoded
            message = await receive()
            body = message.get("body", b"")
            received += len(body)
            if gzip is not None and message["type"] == "http.request":
                body = gzip.read(body, limit - decoded + 1, not message.get("more_body", False))
            decoded += len(body)
            if max(received, decoded) > limit:
                raise HTTPException(413, over)
            return {**message, "body": body}

        await self._app(scope, limited, send)


class Gzip:
    """Decompresses a body that comes in pieces, and no more of it than is asked for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def read(self, piece: bytes, at_most: int, is_last: bool) -> bytes:
        """At most so many bytes: all of the piece if these are fewer. Raises HTTPException."""
        parts: list[bytes] = []
        try:
            while piece and at_most > 0:
                if self._member.eof:  # files of gzip may follow each other
                    self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                parts.append(self._member.decompress(piece, at_most))
                at_most -= len(parts[-1])
                piece = self._member.unused_data if self._member.eof else b""
        except zlib.error as error:
            raise HTTPException(422, f"the body is not gzip, as it says: {error}") from error
        if is_last and at_most > 0 and not self._member.eof:
            raise HTTPException(422, "the body is gzip without its end")
        return b"".join(parts)


class HeadAsGet:
    """ASGI middleware. HEAD is answered as GET is, without the body."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


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
