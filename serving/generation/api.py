"""OpenAI's API of an endpoint whose model writes.

POST /v1/chat/completions    of a model with a chat template
POST /v1/completions         a text goes on; of a model of the task `generate`, its source
GET  /v1/models              the names that `model` can be, and which engine runs
GET  /docs                   this as a page to try it on; /openapi.json
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi_offline import FastAPIOffline
from starlette.types import Receive, Scope, Send

from serving.config import Serve
from serving.generation import answers
from serving.generation.chat import ChatAnswer
from serving.generation.completion import CompletionAnswer
from serving.generation.errors import BROKEN, answer_in_openai_shape, error_body, refusal
from serving.generation.requests import ChatRequest, CompletionRequest
from serving.http.bodies import BodyLimit, JsonRoute


def http_api(endpoint: Any, settings: Serve) -> FastAPI:
    """The API of an endpoint's replica (app.py)."""
    http = FastAPIOffline(title="raymill", redoc_url=None)
    http.router.route_class = JsonRoute
    limit = settings.max_request_megabytes
    http.add_middleware(BodyLimit, limit_megabytes=limit, answer=refusal)
    answer_in_openai_shape(http)

    @http.post("/v1/chat/completions", response_model=None)
    async def chat_completions(request: ChatRequest) -> Response:
        return await _answered(await endpoint.asked(ChatAnswer, request), request.stream)

    @http.post("/v1/completions", response_model=None)
    async def completions(request: CompletionRequest) -> Response:
        return await _answered(await endpoint.asked(CompletionAnswer, request), request.stream)

    @http.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": await asyncio.to_thread(endpoint.listed)}

    return http


async def _answered(answer: Any, is_stream: bool) -> Response:
    if is_stream:
        return Stream(answer)
    try:
        return JSONResponse(await answer.whole())
    finally:
        answer.close()


class Stream(StreamingResponse):
    """Events of an answer, which ends with its client."""

    def __init__(self, answer: Any):
        self._answer = answer
        super().__init__(_events(answer), media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


async def _events(answer: Any) -> AsyncIterator[str]:
    """An error in a stream is its last event: who reads it is not to take what came for all."""
    try:
        async for body in answer.chunks():
            yield answers.event(body)
    except Exception as error:  # noqa: BLE001  whatever it is, the client must hear of it
        yield answers.event(error_body(f"{type(error).__name__}: {error}", BROKEN))
        return
    yield answers.DONE
