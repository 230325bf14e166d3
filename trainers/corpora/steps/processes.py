"""The processes that do the steps: they import what all need before they are asked to."""

import importlib
from typing import Any

from cluster.prestart import environment, prestart
from cluster.recipe import Recipe

IMPORTED = ("ray.data._internal.execution.operators.map_operator", "trainers.corpora.shard")


def runtime_env() -> dict[str, Any]:
    """Of a task."""
    return environment("trainers.corpora.steps.processes.imports")


def start(recipe: Recipe) -> None:
    """Starts as many ahead as there will be tasks at once."""
    import ray

    prestart(runtime_env(), at_once(recipe, ray.cluster_resources()["CPU"]))


def at_once(recipe: Recipe, cpus: float) -> int:
    """How many tasks run side by side."""
    return recipe.corpora.concurrency or max(1, int(cpus))


def imports() -> None:
    """What Ray calls in a process that has just started."""
    for name in IMPORTED:
        importlib.import_module(name)
