"""Ray Data without its waits. It takes a while to import, so whoever needs this imports it late.

Before it runs a task, Ray Data asks one actor for the number of a data set, and another, which
talks to the autoscaler, for the room that it may take: processes that first import Ray Data. It
looks for the second's answer once a second, for every data set anew, and runs one task at a time
meanwhile.
"""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaling
from ray.data._internal.stats import _StatsManager

from cluster.local import is_ours
from cluster.replacing import replaced

TOLD = (
    "register_dataset_to_stats_actor",
    "update_execution_metrics",
    "update_iteration_metrics",
)
"""What tells the first actor."""


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Has Ray Data begin at once, on all that there is; on a Ray of our own also without its
    actors, of which the first gathers figures for a dashboard."""
    coordinator = _AllRoom if is_ours() else _RoomAtOnce
    with contextlib.ExitStack() as stack:

        def replace(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(replaced(owner, name, value))

        replace(autoscaling, "DefaultAutoscalingCoordinator", coordinator)
        replace(_StatsManager, "gen_dataset_id_from_stats_actor", lambda: uuid.uuid4().hex)
        for name in TOLD if is_ours() else ():
            replace(_StatsManager, name, lambda *_, **__: None)
        yield


class _RoomAtOnce(autoscaling.DefaultAutoscalingCoordinator):
    """Until the actor has answered, all that the cluster has."""

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return super().get_reserved_resources() or {"": ray.cluster_resources()}


class _AllRoom(autoscaling.AutoscalingCoordinator):
    """All that a Ray has which does not grow."""

    def __init__(self, requester_id: str, **_: Any):
        self._room = {requester_id: ray.cluster_resources()}

    def request_resources(self, *_: Any, **__: Any) -> None:
        pass

    def cancel_request(self) -> None:
        pass

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return self._room
