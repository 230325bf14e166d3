"""Groups of workers that grow and shrink. Ray Train decides when, and ends a group to start one of
another size; here the group is asked first, and leaves a checkpoint, so that nothing is trained
twice. A group that lost a worker goes on from its last one.
"""

import threading
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from cluster.progress import Relayed

PATIENCE_S = 120.0
"""For the step that is under way, and the checkpoint behind it."""


class Ending:
    """In a worker's process: whether its training is asked to end, and whether it has."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.ended = threading.Event()


ENDING = Ending()


def end() -> None:
    """Has this process's training end, with a checkpoint, and waits for it."""
    ENDING.asked.set()
    ENDING.ended.wait(PATIENCE_S)


class Resizing(ControllerCallback, WorkerGroupCallback):
    """In Ray Train's controller."""

    def __init__(self, progress: Relayed):
        self._progress = progress
        self._group: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._group = worker_group
        self._progress.line(f"{len(worker_group)} workers")

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        self._group = None

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        if self._group is None:  # the first group, or the last one is gone
            return
        self._progress.line(f"room for {resize_decision.num_workers} workers")
        try:
            ray.get(self._group.execute_async(end), timeout=PATIENCE_S)
        except ray.exceptions.RayError:  # a worker is lost just now: the last checkpoint counts
            return
