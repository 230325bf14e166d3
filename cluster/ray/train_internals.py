"""Everything private of Ray Train that raymill touches.

tests/integration/test_trainings.py tells when a new version of Ray has moved what is replaced here;
what is only imported fails at once.
"""

from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller import placement_group_cleaner
from ray.train.v2._internal.execution.controller.state import PreemptingState, ReschedulingState

from cluster.ray import ray_internals


class Cleaner(placement_group_cleaner.PlacementGroupCleaner):
    """Frees what a worker group holds when its controller is gone, in a process of its own.

    Ray Train's own asks the dashboard whether the controller is alive. A local Ray has none: the
    CPUs of a killed controller would never come free, and the run's log would have a warning every
    second. A dashboard would cost each command seconds and a gigabyte of memory.
    """

    def start_monitoring(self) -> bool:
        placement_group_cleaner.is_actor_alive = lambda actor_id, timeout: (
            ray_internals.is_actor_alive(actor_id)
        )
        return super().start_monitoring()


def use_our_cleaner() -> None:
    """In the process of a Ray Train controller, before it starts its cleaner."""
    placement_group_callback.PlacementGroupCleaner = Cleaner  # type: ignore[misc]


__all__ = [
    "ControllerCallback",
    "DatasetsCallback",
    "PreemptingState",
    "ReschedulingState",
    "WorkerGroupCallback",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
    "use_our_cleaner",
]
