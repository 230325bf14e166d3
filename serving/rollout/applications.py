"""The Ray Serve application of a promoted model, by what can serve it.

`build` is the import path for RayService manifests: `serving.rollout.applications:build`.
"""

from typing import Any

from ray import serve

from cluster.lazy_import import lazy_import
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.config import Serve
from serving.rollout.promote import promoted_model, promotion
from serving.rollout.promote import settings as promoted_with
from trainers.tasks.registry import task_of

APPLICATIONS = {
    "encoder": "serving.encoders.app:application",
    "vllm": "serving.generation.app:application",
}
"""By the `servable` of a task."""


def application(model: Artifact, settings: Serve) -> serve.Application:
    made: serve.Application = lazy_import(APPLICATIONS[task_of(model).servable])(model, settings)
    return made


def build(arguments: dict[str, Any]) -> serve.Application:
    """`model`: what was promoted, by recipe name or promotion id; `workspace`: where it lives;
    further keys are those of the recipe's `serve` section, and stand before what it was promoted
    with."""
    own = dict(arguments)
    promoted = promotion(Storage.at(own.pop("workspace")), own.pop("model"))
    settings = Serve.model_validate({**promoted_with(promoted), **own})
    return application(promoted_model(promoted), settings)
