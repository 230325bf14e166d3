"""The HTTP API of an encoder endpoint, whose schema is the types of the task's Predictor.

POST /v1/TASK       {"texts": ["...", ...], "truncate": true}
GET  /v1/model      what answers: model, version, task
GET  /docs          this as a page to try it on, which needs no other network; /openapi.json
"""

import inspect
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, create_model

from serving.config import Serve
from serving.http.bodies import BodyLimit, HeadAsGet, JsonRoute
from serving.http.refusals import RESPONSES, refuse_in_words
from trainers.tasks.predictor import Predictor


class Answering(Protocol):
    """What answers requests: one replica."""

    name: str
    version: str

    async def answers(self, inputs: list[Any], truncate: bool) -> list[Any]: ...

    def describe(self) -> dict[str, Any]: ...


class Answer(BaseModel):
    model: str
    version: str


def request_type(predictor: type[Predictor], max_inputs: int) -> type[BaseModel]:
    """Of the body of a request to the task's route."""
    item: Any = predictor.Input
    fields: Any = {
        predictor.inputs: (list[item], Field(min_length=1, max_length=max_inputs)),
        "truncate": (bool, Field(True, description="`false` refuses inputs that would be cut")),
    }
    return create_model("Request", __config__=ConfigDict(extra="forbid"), **fields)


def http_api(
    answering: Answering, predictor: type[Predictor], route: str, settings: Serve
) -> FastAPI:
    """The API of one replica, of a task with this Predictor."""
    http = FastAPIOffline(title="raymill", redoc_url=None)
    http.router.route_class = JsonRoute
    http.add_middleware(BodyLimit, limit_megabytes=settings.max_request_megabytes)
    http.add_middleware(HeadAsGet)
    body = request_type(predictor, settings.max_texts)
    refuse_in_words(http, [*body.model_fields])
    output: Any = predictor.Output
    fields: Any = {"predictions": (list[output], ...)}
    answer: Any = create_model("Answer", __base__=Answer, **fields)

    async def predict(request: Any) -> Any:
        return answer(
            model=answering.name,
            version=answering.version,
            predictions=await answering.answers(
                getattr(request, predictor.inputs), request.truncate
            ),
        )

    # FastAPI reads a function's types, which are known only here.
    parameter = inspect.Parameter(
        "request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=body
    )
    predict.__signature__ = inspect.Signature([parameter], return_annotation=answer)  # type: ignore[attr-defined]
    http.post(route, responses=RESPONSES, response_model=answer)(predict)

    @http.get("/v1/model")
    async def model() -> dict[str, Any]:
        return answering.describe()

    return http
