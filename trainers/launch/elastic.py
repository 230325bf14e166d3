"""Groups of workers that grow and shrink. Ray Train decides when, and ends a group to start one of
another size; here the group is asked first, and leaves a checkpoint, so that nothing is trained
twice. A group that lost a worker goes on from its last one; where a node is announced to go, it
leaves one, and trains on until Ray Train starts it elsewhere.
"""

import time
from typing import Any

import ray

from cluster.ray.train_internals import (
    ControllerCallback,
    PreemptingState,
    ReschedulingState,
    WorkerGroupCallback,
    use_our_cleaner,
)
from cluster.runs.progress import Relayed, counted
from trainers.engine.stop_requests import REQUESTS
from trainers.launch.waiting import WaitForNodes

# The controller imports this with its callbacks, before it starts what cleans up behind it.
use_our_cleaner()

END_TIMEOUT_S = 120.0
"""For the step that is under way, and the checkpoint behind it."""
PAUSE_S, SILENT_PAUSES = 0.5, 10


def end() -> None:
    """Has this process's training end, with a checkpoint, and waits for it."""
    REQUESTS.stop.set()
    REQUESTS.ended.wait(END_TIMEOUT_S)


def save() -> None:
    """Has this process's training leave a checkpoint."""
    REQUESTS.save.set()


class Following(ControllerCallback, WorkerGroupCallback):
    """In Ray Train's controller: tells how many workers there are, asks a group to end, and gives
    up where there is no room for one."""

    def __init__(self, progress: Relayed, workers: int | None, wait: WaitForNodes):
        self._progress, self._wait = progress, wait
        self._workers = workers
        """What the user knows; None at first, where the number is not fixed."""
        self._group: Any = None
        self._pauses = 0

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        is_announced = isinstance(current_state, PreemptingState)
        if is_announced and not isinstance(previous_state, PreemptingState):
            self._progress.line("a node is about to go; leaves a checkpoint")
            self._group.execute_async(save)
        if current_state is previous_state and self._group is None:
            # Ray Train asks again and again for room, without a pause of its own.
            self._pauses += 1
            time.sleep(PAUSE_S)
        if isinstance(current_state, ReschedulingState) or self._pauses > SILENT_PAUSES:
            self._wait.go_on(self._progress)  # what it raises, Ray Train raises on the driver

    def after_worker_group_start(self, worker_group: Any) -> None:
        if len(worker_group) != self._workers or self._wait.since is not None:
            self._progress.line(counted(len(worker_group), "worker"))
        self._group, self._workers = worker_group, len(worker_group)
        self._pauses, self._wait.since = 0, None

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        self._group = None

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        if self._group is None:  # the first group, or the last one is gone
            return
        try:
            ray.get(self._group.execute_async(end), timeout=END_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError:
            self._progress.line(f"no checkpoint within {END_TIMEOUT_S:g} s; the last one counts")
        except ray.exceptions.RayError:  # a worker is lost just now: the last checkpoint counts
            return
