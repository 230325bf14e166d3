"""The Ray Serve application of models that write. Its HTTP API is in api.py."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from ray import serve

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from serving.config import Serve

if TYPE_CHECKING:
    from serving.generation.models import Served

ENGINE = "transformers"


@serve.deployment
@serve.ingress()
class Endpoint:
    """One replica, with one engine."""

    def __init__(self, model: Artifact, settings: Serve):
        # Here, so that what deploys a model imports neither torch nor transformers: seconds.
        from serving.generation.chat import GrammarsOf
        from serving.generation.engine import Engine
        from serving.generation.models import Models
        from trainers.models.devices import own_device
        from trainers.tasks.writing.batcher import Batcher

        self.name, self.version = model.manifest.recipe, model.version
        self._settings, self._grammars = settings, GrammarsOf()
        device = own_device(settings.gpus_per_replica)
        self._models = Models(model, device, settings.max_adapters)
        batcher = Batcher(self._models.model, settings.max_sequences, self._models.ready)
        self._engine = Engine(batcher, settings.max_queued)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once this replica is made."""
        from serving.generation.api import http_api

        return http_api(self, self._settings)

    async def asked(self, kind: type[Any], request: Any) -> Any:
        """The answer to a request, begun, which must be closed. Raises Refused."""
        from serving.generation.engine import Full
        from serving.generation.errors import Refused

        # In a thread: the event loop must go on to hand out tokens.
        answer = await asyncio.to_thread(self._made, kind, request)
        try:
            answer.begin(self._engine)
        except Full:
            raise Refused(
                429, "as many requests wait as may (serve.max_queued); try again", None, "full"
            ) from None
        return answer

    def _made(self, kind: type[Any], request: Any) -> Any:
        served = self._named(request.model)
        return kind(request, served, self._models.context, self._grammars)

    def _named(self, name: str) -> "Served":
        from serving.generation.errors import Refused

        try:
            served = self._models.named(name)
        except UserError as error:
            raise Refused(500, str(error), "model", "model_damaged") from error
        if served is None:
            names = ", ".join(one["id"] for one in self.listed())
            raise Refused(
                404, f"there is no model {name!r}; there are {names}", "model", "model_not_found"
            )
        return served

    def listed(self) -> list[dict[str, Any]]:
        """For /v1/models."""
        from serving.generation.models import created

        known = self._models.known()
        base = self._models.base
        of_base = [] if base is None else [_listed(base.name, base.version, 0, None)]
        return of_base + [
            _listed(name, model.version, created(model), None if base is None else base.name)
            for name, model in known.items()
        ]


def _listed(name: str, version: str, created: int, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "raymill",
        "version": version,
        "parent": parent,
        "engine": ENGINE,
    }


def application(model: Artifact, settings: Serve) -> serve.Application:
    """Raises UserError for a model that has no endpoint yet."""
    config = json.loads(model.storage.read(f"{model.id}/config.json"))
    if config.get("is_encoder_decoder"):
        raise UserError(
            f"serve: {model.id} is an encoder-decoder ({config['model_type']}), which has no "
            "endpoint yet; `raymill score` has its answers"
        )
    return Endpoint.options(  # type: ignore[attr-defined]
        **settings.deployment,
        # Its own queue refuses what is too much, in OpenAI's shape.
        max_ongoing_requests=2 * (settings.max_sequences + settings.max_queued),
    ).bind(model, settings)
