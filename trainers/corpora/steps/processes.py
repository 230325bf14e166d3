"""The processes that do the steps: they import what all need before they are asked to."""

from typing import Any

from cluster import prestart
from cluster.recipe import Recipe


def runtime_env() -> dict[str, Any]:
    """Of a task."""
    return prestart.environment("trainers.corpora.steps.processes.imports")


def start(recipe: Recipe) -> None:
    """Starts as many ahead as there will be tasks at once."""
    import ray

    prestart.start(runtime_env(), at_once(recipe, ray.cluster_resources()["CPU"]))


def at_once(recipe: Recipe, cpus: float) -> int:
    """How many tasks run side by side."""
    return recipe.corpora.concurrency or max(1, int(cpus))


def imports() -> None:
    """What Ray calls in a process that has just started."""
    with prestart.importing():
        from ray.data._internal.execution.operators import map_operator  # noqa: F401

        from trainers.corpora import shard  # noqa: F401
