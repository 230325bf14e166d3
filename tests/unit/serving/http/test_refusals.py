"""What an endpoint refuses: with its status, in words, and unread where it is large."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from serving.http.refusals import BodyLimit, explain

LIMIT_BYTES = 1000


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    texts: list[str]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(BodyLimit, limit_megabytes=lambda: LIMIT_BYTES / 1e6)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": explain(error.errors(), ["texts"])}, 422)

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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"txts": ["a"], "texts": ["a"]}, "txts: unknown key; known: texts"),
        ({"texts": ["a"], "threshold": 1}, "threshold: unknown key; known: texts"),
        ({}, "texts: missing"),
        ({"texts": "a"}, "texts: Input should be a valid list"),
        ({"texts": ["a", 1]}, "texts.1: Input should be a valid string"),
        ({"texts": [1] * 7}, "texts.4: Input should be a valid string; and 2 more"),
        (["a"], "the body is no JSON object; send one, with Content-Type: application/json"),
    ],
)
def test_what_was_not_asked_for_is_named(app: FastAPI, body: Any, says: str) -> None:
    status, answer, _ = post(app, [json.dumps(body).encode()])
    assert status == 422
    assert answer["detail"].endswith(says)
    assert list(answer) == ["detail"], "the body is not sent back"


def test_what_is_not_json_is_told(app: FastAPI) -> None:
    status, answer, _ = post(app, [b'{"texts": [}'])
    assert (status, answer["detail"]) == (
        422,
        "the body is not JSON: Expecting value, at character 11",
    )
    says = "the body is no JSON object; send one, with Content-Type: application/json"
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/octet-stream"}):
        status, answer, _ = post(app, [b'{"texts": ["a"]}'], headers)
        assert (status, answer["detail"]) == (422, says)
    assert post(app, [b""])[1]["detail"] == says
