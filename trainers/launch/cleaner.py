"""Frees what a worker group holds when its controller is gone, with a dashboard or without.

Ray Train's own asks the dashboard whether the controller is alive. Without one, as in a local Ray,
it would never free the CPUs of a killed one, and Ray Train would wait for it for 12 s at the end of
each group. Here the cluster itself is asked.
"""

import ray
import ray.exceptions
from ray.train.v2._internal.execution.controller import placement_group_cleaner


class Cleaner(placement_group_cleaner.PlacementGroupCleaner):
    """In a process of its own, which outlives the controller, and imports no torch."""

    def start_monitoring(self) -> bool:
        placement_group_cleaner.is_actor_alive = is_alive
        return super().start_monitoring()


def is_alive(actor_id: str, timeout: float) -> bool:
    """Whether the cluster has this actor still."""
    try:
        found = ray._private.state.actors(actor_id)
    except ray.exceptions.RaySystemError:  # nobody answers just now
        return True
    return bool(found) and found["State"] != "DEAD"
