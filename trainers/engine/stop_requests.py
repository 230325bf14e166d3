"""Requests to a running training: to save a checkpoint, or to save one and stop. All ranks learn of
one in the same step."""

import contextlib
import enum
import threading
from collections.abc import Callable, Iterator

NODE_INTERVAL_S = 2.0
"""How often a single worker looks whether its node is about to go."""


class Request(enum.Enum):
    NOTHING = "nothing"
    SAVE = "save"
    STOP = "stop"


RequestSource = Callable[[], Request]
"""Returns a rank's request, once."""


def no_request() -> Request:
    return Request.NOTHING


class Requests:
    """From other threads of a worker's process to the one that trains."""

    def __init__(self) -> None:
        self.save = threading.Event()
        self.stop = threading.Event()
        self.ended = threading.Event()
        """Whether the training has."""

    def pending(self) -> Request:
        if self.stop.is_set():
            return Request.STOP
        if self.save.is_set():
            self.save.clear()
            return Request.SAVE
        return Request.NOTHING


REQUESTS = Requests()


@contextlib.contextmanager
def announced_end_of_node() -> Iterator[threading.Event]:
    """An event that is set when Ray announces the end of this process's node, such as a spot
    instance that is taken back. (Ray Train looks for it itself, for its groups.)"""
    import ray
    from ray.exceptions import RaySystemError

    from cluster.ray.ray_internals import draining_nodes

    node = ray.get_runtime_context().get_node_id()
    is_announced, is_over = threading.Event(), threading.Event()

    def look() -> None:
        while not (is_over.wait(NODE_INTERVAL_S) or is_announced.is_set()):
            with contextlib.suppress(RaySystemError):  # the head may start again just now
                if node in draining_nodes():
                    is_announced.set()

    threading.Thread(target=look, name="announced-end", daemon=True).start()
    try:
        yield is_announced
    finally:
        is_over.set()
