"""The Ray Serve application of encoder tasks. Its HTTP API is in api.py."""

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from ray import serve

from cluster.lazy_import import lazy_import
from cluster.store.artifacts import Artifact
from serving.config import Serve
from trainers.tasks.registry import task_of

if TYPE_CHECKING:
    from trainers.tasks.encoding import Encoded
    from trainers.tasks.predictor import Output


@serve.deployment
@serve.ingress()
class Endpoint:
    """One replica. Concurrent requests share forwards."""

    def __init__(self, model: Artifact, settings: Serve):
        # Here, so that what deploys a model imports neither torch nor transformers: seconds.
        from trainers.models.devices import own_device
        from trainers.tasks.predictor import load

        self.name, self.version = model.manifest.recipe, model.version
        self._settings = settings
        self._task = task_of(model)
        self._predictor = load(model.path, own_device(settings.gpus_per_replica))
        self._forward.set_max_batch_size(settings.max_batch_size)  # type: ignore[attr-defined]
        self._forward.set_batch_wait_timeout_s(settings.batch_wait_ms / 1000)  # type: ignore[attr-defined]

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once this replica is made."""
        from serving.encoders.api import http_api

        predictor = lazy_import(self._task.predictor)
        return http_api(self, predictor, self._task.route, self._settings)

    async def answers(self, inputs: list[Any], truncate: bool) -> "list[Output]":
        """Raises HTTPException where an input would be cut that must not be."""
        from serving.http.refusals import refuse_cut

        # In a thread: the event loop must go on to answer health checks and gather requests.
        encoded = await asyncio.to_thread(self._predictor.encode, inputs)
        if not truncate:
            refuse_cut(encoded, self._predictor.inputs)
        return await self._forward(encoded)  # type: ignore[arg-type]

    @serve.batch
    async def _forward(self, requests: "list[list[Encoded]]") -> "list[list[Output]]":
        """The forwards mix the inputs of several requests."""
        together = [encoded for request in requests for encoded in request]
        outputs = iter(await asyncio.to_thread(self._predictor.forward, together))
        return [[next(outputs) for _ in request] for request in requests]

    def describe(self) -> dict[str, Any]:
        task = self._task.model_fields["task"].default
        known = self._predictor.describe()
        return {"model": self.name, "version": self.version, "task": task, **known}


def application(model: Artifact, settings: Serve) -> serve.Application:
    return Endpoint.options(  # type: ignore[attr-defined]
        **settings.deployment,
        max_ongoing_requests=4 * settings.max_batch_size,
    ).bind(model, settings)
