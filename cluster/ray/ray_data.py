"""Ray Data without its waits. It takes a while to import, so whoever needs this imports it late.

Ray Data asks an actor, which talks to the autoscaler, for the room that it may take, and tells
another one its figures: processes that first import Ray Data, beside those of its tasks. It looks
for the first one's answer once a second, for every data set anew, and runs one task at a time
meanwhile.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaling
from ray.data._internal.stats import _StatsManager

from cluster.ray.local import is_ours
from cluster.ray.replacing import replaced

TOLD = (
    "register_dataset_to_stats_actor",
    "update_execution_metrics",
    "update_iteration_metrics",
)
"""What tells figures."""


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Has Ray Data begin at once on a Ray of our own, which it shares with nobody, without these
    actors. On others' it goes on to ask for what is reserved for it."""
    with contextlib.ExitStack() as stack:
        if is_ours():
            stack.enter_context(replaced(autoscaling, "DefaultAutoscalingCoordinator", _AllRoom))
            for name in TOLD:
                stack.enter_context(replaced(_StatsManager, name, lambda *_, **__: None))
        yield


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
