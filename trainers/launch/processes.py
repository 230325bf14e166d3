"""The processes that train: they import all that training needs before they are asked to."""

from typing import Any

from cluster.ray import prestart
from cluster.ray.resources import concurrent
from trainers.engine.training_config import Training


def runtime_env(settings: Training) -> dict[str, Any]:
    """Of a worker. Empty where it has GPUs: which, it must know before it imports torch."""
    if settings.gpus_per_worker:
        return {}
    threads = prestart.threads(settings.worker_cpus)
    return prestart.environment("trainers.launch.processes.imports", **threads)


def start(settings: Training) -> None:
    """Starts those of a group ahead, as many as fit: they import while Ray Train's controller
    starts. A single worker is asked for at once, before Ray would know of its process."""
    own = runtime_env(settings)
    if not own or settings.most_workers == 1:
        return
    import ray
    from ray.train.v2._internal import constants

    train = {  # what Ray Train gives its controller
        constants.RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR: (
            constants.DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE
        ),
        **constants.get_env_vars_to_propagate(),
    }
    number = concurrent(settings.worker_resources, ray.cluster_resources(), settings.most_workers)
    prestart.start({"env_vars": {**train, **own["env_vars"]}}, number, by_actor=True)


def imports() -> None:
    """What Ray calls in a process that has just started."""
    with prestart.importing():
        import ray.train.torch  # noqa: F401

        from trainers.launch import groups  # noqa: F401
        from trainers.models import lean_imports
        from trainers.tasks.pretraining import (
            causal_lm,  # noqa: F401
        )

        lean_imports.deepspeed()
