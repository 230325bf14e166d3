"""A group is asked to leave a checkpoint before it is ended for another size."""

import pickle
import threading
from typing import Any

import pytest
import ray.exceptions
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller.state import (
    PreemptingState,
    ReschedulingState,
    RestartingState,
    RunningState,
)
from ray.train.v2.api.preemption import PreemptionInfo

from cluster.errors import InfrastructureError
from tests.fakes import Notes
from trainers.engine.stop_requests import Request, Requests
from trainers.launch import elastic
from trainers.launch.elastic import Following, end, save
from trainers.launch.failures import Kind, failure
from trainers.launch.waiting import WaitForNodes


def wait_for_nodes() -> WaitForNodes:
    return WaitForNodes("training", 30.0, 2, {"CPU": 4.0})


class Group:
    def __init__(self, workers: int):
        self._workers = workers
        self.executed: list[Any] = []

    def __len__(self) -> int:
        return self._workers

    def execute_async(self, function: Any) -> list[Any]:
        self.executed.append(function)
        return []


class Decision:
    num_workers = 3


@pytest.fixture
def awaited(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(elastic.ray, "get", lambda refs, timeout: found.append(timeout))
    return found


def test_a_group_that_runs_is_asked_to_end(awaited: list[Any]) -> None:
    notes, group = Notes(), Group(2)
    following: Any = pickle.loads(pickle.dumps(Following(notes, None, wait_for_nodes())))  # type: ignore[arg-type]
    following._progress = notes
    following.before_controller_execute_resize_decision(Decision())
    assert awaited == [], "there is none yet"
    following.after_worker_group_start(group)
    following.before_controller_execute_resize_decision(Decision())
    assert group.executed == [end]
    assert awaited == [elastic.END_TIMEOUT_S]
    assert notes.lines == ["2 workers"]
    following.before_worker_group_shutdown(group)
    following.before_controller_execute_resize_decision(Decision())
    assert group.executed == [end], "a group that lost a worker is none to ask"


def test_the_user_is_told_what_changes() -> None:
    notes = Notes()
    following = Following(notes, 2, wait_for_nodes())  # type: ignore[arg-type]
    waiting = ReschedulingState(ControllerError(WorkerGroupStartupTimeoutError(2)))
    following.after_worker_group_start(Group(2))
    assert notes.lines == []
    for _ in range(3):
        following.after_controller_state_update(RunningState(), waiting)
    following.after_worker_group_start(Group(2))
    following.after_controller_state_update(waiting, RunningState())
    assert notes.lines == ["waits for nodes with room for its workers", "2 workers"]


def test_too_little_room_is_asked_for_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, pauses, waiting = Notes(), list[float](), RestartingState(ControllerError(OSError()))
    monkeypatch.setattr(elastic.time, "sleep", pauses.append)
    following = Following(notes, None, wait_for_nodes())  # type: ignore[arg-type]
    following.after_controller_state_update(RunningState(), waiting)
    for _ in range(elastic.SILENT_PAUSES):
        following.after_controller_state_update(waiting, waiting)
    assert pauses == [elastic.PAUSE_S] * elastic.SILENT_PAUSES
    assert notes.lines == [], "a moment is nothing to tell"
    following.after_controller_state_update(waiting, waiting)
    assert notes.lines == ["waits for nodes with room for its workers"]


@pytest.mark.parametrize("in_states", ["rescheduling", "restarting"])
def test_room_is_not_waited_for_for_ever(in_states: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(elastic.time, "monotonic", lambda: now)
    monkeypatch.setattr(elastic.time, "sleep", lambda pause_s: None)
    following = Following(Notes(), 2, wait_for_nodes())  # type: ignore[arg-type]
    error = ControllerError(WorkerGroupStartupTimeoutError(2))
    waiting: Any = ReschedulingState(error)
    if in_states == "restarting":
        waiting = RestartingState(error)
        for _ in range(elastic.SILENT_PAUSES):
            following.after_controller_state_update(waiting, waiting)
    following.after_controller_state_update(waiting, waiting)
    now += 1000.0
    following.after_worker_group_start(Group(2))
    following.before_worker_group_shutdown(Group(2))
    for _ in range(elastic.SILENT_PAUSES + 1):
        following.after_controller_state_update(waiting, waiting)
    now += 1700.0
    following.after_controller_state_update(waiting, waiting)
    now += 101.0
    with pytest.raises(InfrastructureError) as raised:
        following.after_controller_state_update(waiting, waiting)
    assert "training gave up: no node had room for its workers" in str(raised.value)
    passed_on = ControllerError(raised.value)  # as Ray Train raises it
    assert failure(passed_on).kind is Kind.MISTAKE, "it is not tried again"
    assert failure(passed_on).error is raised.value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ray.exceptions.ActorDiedError(), []),
        (ray.exceptions.GetTimeoutError(), ["no checkpoint within 120 s; the last one counts"]),
    ],
)
def test_a_worker_that_leaves_no_checkpoint_is_no_error(
    error: Exception, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(refs: Any, timeout: float) -> None:
        raise error

    monkeypatch.setattr(elastic.ray, "get", lost)
    notes = Notes()
    following = Following(notes, 2, wait_for_nodes())  # type: ignore[arg-type]
    following.after_worker_group_start(Group(2))
    following.before_controller_execute_resize_decision(Decision())
    assert notes.lines == told


def test_who_asks_waits_for_the_training_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests()
    monkeypatch.setattr(elastic, "REQUESTS", requests)
    asking = threading.Thread(target=end)
    asking.start()
    assert requests.stop.wait(600)
    assert requests.pending() is Request.STOP
    assert asking.is_alive()
    requests.ended.set()
    asking.join(600)
    assert not asking.is_alive()


def test_a_node_that_is_to_go_is_told_once_and_asks_for_one_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes, group = Notes(), Group(2)
    following = Following(notes, 2, wait_for_nodes())  # type: ignore[arg-type]
    following.after_worker_group_start(group)
    announced = [PreemptingState(PreemptionInfo(None, {"node": [1]}), 0.0) for _ in range(2)]
    following.after_controller_state_update(RunningState(), announced[0])
    following.after_controller_state_update(announced[0], announced[1])
    assert notes.lines == ["a node is about to go; leaves a checkpoint"]
    assert group.executed == [save]
    requests = Requests()
    monkeypatch.setattr(elastic, "REQUESTS", requests)
    save()
    assert [requests.pending() for _ in range(2)] == [Request.SAVE, Request.NOTHING]
