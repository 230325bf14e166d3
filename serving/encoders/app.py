"""The Ray Serve application of encoder tasks, and its HTTP schema.

    POST /v1/classify   {"texts": ["...", ...]}
    GET  /v1/model      what answers: model, version, labels
    GET  /-/healthz     Ray Serve's own

`build` is the import path for RayService manifests: `serving.encoders.app:build`.
"""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from ray import serve

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.config import Serve
from serving.http.refusals import RESPONSES, BodyLimit, explain
from serving.rollout.promote import promotion
from serving.rollout.promote import settings as promoted_with

if TYPE_CHECKING:
    from serving.encoders.engine import Prediction

http = FastAPI(title="raymill", docs_url="/docs")


def _limit_megabytes() -> float:
    endpoint: Any = serve.get_replica_context().servable_object
    return endpoint.max_request_megabytes


http.add_middleware(BodyLimit, limit_megabytes=_limit_megabytes)


def _encodable(text: str) -> str:
    text.encode()  # half of a surrogate pair, which JSON can hold, is no text
    return text


class ClassifyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    texts: Annotated[list[Annotated[str, AfterValidator(_encodable)]], Field(min_length=1)]


class ClassifyPrediction(BaseModel):
    label: str
    probabilities: dict[str, float]
    """Of every label; they sum to one."""


class ClassifyResponse(BaseModel):
    model: str
    version: str
    predictions: list[ClassifyPrediction]
    """In the order of the texts."""


class ModelResponse(BaseModel):
    model: str
    version: str
    task: str
    labels: list[str]


@http.exception_handler(RequestValidationError)
async def _refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    # FastAPI's own answer would send the whole body back.
    return JSONResponse({"detail": explain(error.errors(), [*ClassifyRequest.model_fields])}, 422)


@serve.deployment
@serve.ingress(http)
class Endpoint:
    """One replica. Concurrent requests share forwards."""

    def __init__(self, model: Artifact, settings: Serve):
        # Here, so that what deploys a model imports neither torch nor transformers: seconds.
        from serving.encoders.engine import Classifier

        self._classifier = Classifier(model.path)
        self._name = model.manifest.recipe
        self._version = model.version
        self._max_texts = settings.max_texts
        self.max_request_megabytes = settings.max_request_megabytes
        self._predict.set_max_batch_size(settings.max_batch_size)  # type: ignore[attr-defined]
        self._predict.set_batch_wait_timeout_s(settings.batch_wait_ms / 1000)  # type: ignore[attr-defined]

    @serve.batch
    async def _predict(self, requests: list[list[list[int]]]) -> "list[list[Prediction]]":
        """Each request is a list of encoded texts; the forwards mix them."""
        together = [ids for request in requests for ids in request]
        # In a thread: the event loop must go on to answer health checks and gather requests.
        predictions = iter(await asyncio.to_thread(self._classifier.predict, together))
        return [[next(predictions) for _ in request] for request in requests]

    @http.post("/v1/classify", responses=RESPONSES)
    async def classify(self, request: ClassifyRequest) -> ClassifyResponse:
        if len(request.texts) > self._max_texts:
            raise HTTPException(
                413, f"{len(request.texts)} texts in one request, at most {self._max_texts}"
            )
        predictions = await self._predict(self._classifier.encode(request.texts))  # type: ignore[arg-type]
        return ClassifyResponse(
            model=self._name,
            version=self._version,
            predictions=[
                ClassifyPrediction(label=found.label, probabilities=found.probabilities)
                for found in predictions
            ],
        )

    @http.get("/v1/model")
    async def model(self) -> ModelResponse:
        return ModelResponse(
            model=self._name,
            version=self._version,
            task="classify",
            labels=self._classifier.labels,
        )


def application(model: Artifact, settings: Serve) -> serve.Application:
    autoscaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
    }
    return Endpoint.options(  # type: ignore[attr-defined]
        autoscaling_config=autoscaling,
        ray_actor_options={"num_cpus": settings.cpus_per_replica},
        max_ongoing_requests=4 * settings.max_batch_size,
    ).bind(model, settings)


def build(arguments: dict[str, Any]) -> serve.Application:
    """`model`: what was promoted, by recipe name or promotion id; `workspace`: where it lives;
    further keys are those of the recipe's `serve` section, and stand before what it was promoted
    with."""
    own = dict(arguments)
    promoted = promotion(Storage.at(own.pop("workspace")), own.pop("model"))
    found = Serve.model_validate({**promoted_with(promoted), **own})
    return application(promoted_model(promoted), found)


def promoted_model(promoted: Artifact) -> Artifact:
    model = artifacts.find(promoted.storage, promoted.manifest.parents["finetune"])
    assert model is not None, "a promotion outlived its model"
    return model
