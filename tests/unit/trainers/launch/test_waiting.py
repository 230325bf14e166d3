"""Nodes that are all gone are waited for, but not for ever."""

from typing import Any

import pytest
import ray

from cluster.errors import InfrastructureError
from tests.fakes import Notes
from trainers.launch import waiting
from trainers.launch.waiting import INTERVAL_S, WaitForNodes

GONE = {"Alive": False, "Resources": {"CPU": 8.0}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only the test moves."""
    now = [1000.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    return now


class Cluster:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: list[float]):
        self.nodes: list[dict[str, Any]] = []
        self._clock = clock
        monkeypatch.setattr(ray, "nodes", lambda: [GONE, *self.nodes])

    def has(self, *cpus: float) -> None:
        self.nodes = [{"Alive": True, "Resources": {"CPU": each}} for each in cpus]

    def count(self, wait: WaitForNodes, notes: Notes, minutes: float) -> None:
        for _ in range(round(minutes * 60 / INTERVAL_S)):
            self._clock[0] += INTERVAL_S
            wait.count_nodes(notes)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> Cluster:
    return Cluster(monkeypatch, clock)


def test_a_wait_is_told_once(cluster: Cluster) -> None:
    notes, wait = Notes(), WaitForNodes("training", 30.0, 1, {"CPU": 2.0})
    cluster.has(4.0)
    cluster.count(wait, notes, 60)
    assert notes.lines == []
    cluster.has(1.0, 1.0)
    cluster.count(wait, notes, 20)
    assert notes.lines == ["waits for nodes with room for its workers"]


def test_all_workers_need_room(cluster: Cluster) -> None:
    notes, wait = Notes(), WaitForNodes("training", 30.0, 3, {"CPU": 2.0})
    cluster.has(2.0, 4.0)
    cluster.count(wait, notes, 1)
    assert notes.lines == []
    cluster.has(3.0, 3.0)
    cluster.count(wait, notes, 1)
    assert len(notes.lines) == 1


def test_a_wait_ends_after_its_minutes_and_begins_anew_where_there_was_room(
    cluster: Cluster,
) -> None:
    notes, wait = Notes(), WaitForNodes("search", 30.0, 2, {"CPU": 2.0, "GPU": 0.5})
    cluster.count(wait, notes, 20)
    cluster.nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}]
    cluster.count(wait, notes, 1)
    cluster.has()
    cluster.count(wait, notes, 29)
    with pytest.raises(InfrastructureError) as raised:
        cluster.count(wait, notes, 2)
    assert str(raised.value) == (
        "search gave up: no node had room for its workers within "
        "cluster.wait_for_node_minutes = 30; bring back nodes with room for "
        "2 x 2 CPUs and 0.5 GPUs and run again to go on, or set more minutes"
    )


def test_nodes_are_not_counted_all_the_time(
    cluster: Cluster, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(ray, "nodes", lambda: counted.append(1) or [])
    wait = WaitForNodes("search", 30.0, 1, {"CPU": 2.0})
    for _ in range(100):
        clock[0] += 0.1
        wait.count_nodes(Notes())
    assert len(counted) == 2
