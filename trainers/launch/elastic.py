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
from cluster.runs.progress import Relayed
from trainers.engine.stop_requests import REQUESTS
from trainers.launch.failures import Patience

# The controller imports this with its callbacks, before it starts what cleans up behind it.
use_our_cleaner()

PATIENCE_S = 120.0
"""For the step that is under way, and the checkpoint behind it."""
PAUSE_S, TOLD_AFTER_PAUSES = 0.5, 10


def end() -> None:
    """Has this process's training end, with a checkpoint, and waits for it."""
    REQUESTS.stop.set()
    REQUESTS.ended.wait(PATIENCE_S)


def save() -> None:
    """Has this process's training leave a checkpoint."""
    REQUESTS.save.set()


class Following(ControllerCallback, WorkerGroupCallback):
    """In Ray Train's controller: tells how many workers there are, asks a group to end, and gives
    up where there is no room for one."""

    def __init__(self, progress: Relayed, workers: int | None, patience: Patience):
        self._progress, self._patience = progress, patience
        self._told: int | str | None = workers
        """What the user knows; None at first, where the number is not fixed."""
        self._group: Any = None
        self._pauses = 0
        self._waits_since: float | None = None

    def _tell(self, number: int | str, text: str) -> None:
        if number != self._told:
            self._told = number
            self._progress.line(text)

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        is_announced = isinstance(current_state, PreemptingState)
        if is_announced and not isinstance(previous_state, PreemptingState):
            self._progress.line("a node is about to go; leaves a checkpoint")
            self._group.execute_async(save)
        waits = current_state is previous_state and self._group is None
        if waits:  # Ray Train asks again and again for room, without a pause of its own
            self._pauses += 1
            time.sleep(PAUSE_S)
        if isinstance(current_state, ReschedulingState) or self._pauses > TOLD_AFTER_PAUSES:
            self._tell("room", "waits for room for its workers")
            self._give_up_in_time()

    def _give_up_in_time(self) -> None:
        """Raises what Ray Train's driver then raises in turn."""
        now = time.monotonic()
        if self._waits_since is None:
            self._waits_since = now
        elif now - self._waits_since > self._patience.minutes * 60:
            raise self._patience.is_over()

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._group, self._pauses, self._waits_since = worker_group, 0, None
        self._tell(len(worker_group), f"{len(worker_group)} workers")

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        self._group = None

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        if self._group is None:  # the first group, or the last one is gone
            return
        try:
            ray.get(self._group.execute_async(end), timeout=PATIENCE_S)
        except ray.exceptions.GetTimeoutError:
            self._progress.line(f"no checkpoint within {PATIENCE_S:g} s; the last one counts")
        except ray.exceptions.RayError:  # a worker is lost just now: the last checkpoint counts
            return
