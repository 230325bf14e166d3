"""The HTTP API of an encoder endpoint, whose schema is the types of the task's Predictor.

POST /v1/TASK       {"texts": ["...", ...], "truncate": true}
GET  /v1/model      what answers: model, version, task
GET  /docs          this as a page to try it on, which needs no other network; /openapi.json
"""

import inspect
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, create_model

from serving.config import Serve
from serving.http.bodies import BodyLimit, JsonRoute
from serving.http.refusals import RESPONSES, refuse_in_words
from trainers.tasks.predictor import Predictor


def request_type(predictor: type[Predictor], max_inputs: int) -> type[BaseModel]:
    """Of the body of a request to the task's route."""
    item: Any = predictor.Input
    fields: Any = {
        predictor.inputs: (list[item], Field(min_length=1, max_length=max_inputs)),
        "truncate": (bool, Field(True, description="`false` refuses inputs that would be cut")),
    }
    return create_model("Request", __config__=ConfigDict(extra="forbid"), **fields)


def http_api(endpoint: Any, predictor: type[Predictor], route: str, settings: Serve) -> FastAPI:
    """The API of an endpoint's replica (app.py), of a task with this Predictor."""
    body = request_type(predictor, settings.max_inputs)
    output: Any = predictor.Output
    answer: Any = create_model("Answer", model=str, version=str, predictions=list[output])

    http = FastAPIOffline(title="raymill", redoc_url=None)
    http.router.route_class = JsonRoute
    http.add_middleware(BodyLimit, limit_megabytes=settings.max_request_megabytes)
    refuse_in_words(http, [*body.model_fields])

    async def predict(request: Any) -> Any:
        predictions = await endpoint.answers(getattr(request, predictor.inputs), request.truncate)
        return answer(model=endpoint.name, version=endpoint.version, predictions=predictions)

    # FastAPI reads a function's types, which are known only here.
    parameter = inspect.Parameter(
        "request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=body
    )
    predict.__signature__ = inspect.Signature([parameter], return_annotation=answer)  # type: ignore[attr-defined]
    http.post(route, responses=RESPONSES, response_model=answer)(predict)

    @http.get("/v1/model")
    async def model() -> dict[str, Any]:
        return endpoint.describe()

    return http
