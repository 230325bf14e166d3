"""How a body is read: no further than the limit."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from serving.http.bodies import BodyLimit, JsonRoute

LIMIT_BYTES = 1000


class Body(BaseModel):
    texts: list[str]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.router.route_class = JsonRoute
    app.add_middleware(BodyLimit, limit_megabytes=LIMIT_BYTES / 1e6)

    @app.post("/")
    async def count(body: Body) -> int:
        return len(body.texts)

    return app


def post(
    app: FastAPI, pieces: Sequence[bytes], headers: dict[str, str] | None = None
) -> tuple[int, Any, int]:
    """Status, answer, and how many pieces of the body were read, as by an ASGI server."""
    given = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    read, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": pieces[read - 1], "more_body": read < len(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body), read


def document(size: int) -> bytes:
    """A body of so many bytes."""
    return b'{"texts": ["' + b"a" * (size - 15) + b'"]}'


def test_a_body_up_to_the_limit_is_taken(app: FastAPI) -> None:
    whole = document(LIMIT_BYTES)
    assert post(app, [whole], {"content-length": str(len(whole))}) == (200, 1, 1)
    assert post(app, [whole[:300], whole[300:]]) == (200, 1, 2), "it need not declare its length"


@pytest.mark.parametrize("declared", [True, False])
def test_a_larger_body_is_not_read_to_its_end(app: FastAPI, declared: bool) -> None:
    whole = document(LIMIT_BYTES + 1)
    pieces = [whole[:500], whole[500:], b" " * 500, b" " * 500]
    length = str(sum(map(len, pieces)))
    status, answer, read = post(app, pieces, {"content-length": length} if declared else None)
    assert status == 413
    assert answer == {
        "detail": "the body is over serve.max_request_megabytes = 0.001; send fewer texts"
    }
    assert read == (0 if declared else 2)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_compressed_body_is_refused_unread(app: FastAPI, encoding: str) -> None:
    assert post(app, [b"x"], {"content-encoding": encoding}) == (
        415,
        {"detail": f"Content-Encoding: {encoding} is not read here; send a plain body"},
        0,
    )
