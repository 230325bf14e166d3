"""Ask what runs on the cluster to stop: a flag in one small actor, from the driver to workers.

with stop_flag() as flag:
    start_training(flag)             # whose ranks look at flag.stop_requested()
    ...
    flag.request_stop()              # on Ctrl-C
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

INTERVAL_S = 0.5
"""How often a worker asks the actor, at most."""


class StopFlag:
    """Picklable: a handle on the actor that holds the flag."""

    def __init__(self, actor: Any):
        self._actor = actor
        self._pending: Any = None
        self._answered_at = 0.0

    def request_stop(self, timeout_s: float = 5.0) -> bool:
        """Sets the flag; returns whether anything has ever looked at it. Raises RayError where the
        actor does not answer."""
        import ray

        return ray.get(self._actor.request_stop.remote(), timeout=timeout_s)

    def stop_requested(self) -> bool:
        """Whether the flag is set. Can be called at any rate: it does not wait, the answer is that
        to an earlier call."""
        if time.monotonic() - self._answered_at < INTERVAL_S:
            return False
        import ray

        if self._pending is None:
            self._pending = self._actor.stop_requested.remote()
        if not ray.wait([self._pending], timeout=0)[0]:
            return False
        answer, self._pending, self._answered_at = self._pending, None, time.monotonic()
        return ray.get(answer)


class _Flag:
    """The actor."""

    def __init__(self) -> None:
        self._is_set, self._was_looked_at = False, False

    def request_stop(self) -> bool:
        self._is_set = True
        return self._was_looked_at

    def stop_requested(self) -> bool:
        self._was_looked_at = True
        return self._is_set


@contextlib.contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """A flag that other processes can look at while the block runs."""
    import ray

    # On this node: the loss of another must not cut the line.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    actor: Any = ray.remote(num_cpus=0, label_selector=here)(_Flag).remote()
    try:
        yield StopFlag(actor)
    finally:
        ray.kill(actor)
