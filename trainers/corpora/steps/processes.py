"""The processes that do the steps: they import what all need before they are asked to."""

from typing import Any

from cluster.ray import prestart


def runtime_env() -> dict[str, Any]:
    """Of a task."""
    return prestart.environment("trainers.corpora.steps.processes.imports", **prestart.threads(1))


def start(number: int) -> None:
    """Starts as many ahead."""
    prestart.start(runtime_env(), number)


def imports() -> None:
    """What Ray calls in a process that has just started."""
    with prestart.importing():
        from ray.data._internal.execution.operators import map_operator  # noqa: F401

        from trainers.corpora import shard  # noqa: F401
