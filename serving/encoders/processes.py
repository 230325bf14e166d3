"""The processes that answer: they import all that this needs before they are asked to."""

from typing import Any

from cluster.ray import prestart
from cluster.ray.resources import concurrent
from serving.config import Serve


def runtime_env(settings: Serve) -> dict[str, Any]:
    """Of a replica."""
    threads = prestart.threads(settings.cpus_per_replica)
    return prestart.environment("serving.encoders.processes.imports", **threads)


def start(settings: Serve) -> None:
    """Starts those of an endpoint ahead, as many as fit."""
    import ray

    each, at_most = {"CPU": settings.cpus_per_replica}, max(1, settings.min_replicas)
    number = concurrent(each, ray.cluster_resources(), at_most)
    prestart.start(runtime_env(settings), number)


def imports() -> None:
    """What Ray calls in a process that has just started."""
    with prestart.importing():
        from serving.encoders import api  # noqa: F401
        from trainers.tasks.classify import predictor  # noqa: F401
