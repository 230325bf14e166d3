"""A short form of the faults of tests/chaos that need a cluster of their own: of a few kills."""

import pytest

from tests.chaos import test_busy_machine as busy
from tests.chaos import test_training_kills as kills
from tests.chaos.test_busy_machine import test_a_local_ray_and_an_endpoint_start_on_busy_cores
from tests.chaos.test_controller_kills import (
    test_a_group_whose_controller_is_killed_makes_room_for_the_next,
)
from tests.chaos.test_preemption import test_a_checkpoint_is_left_before_the_node_goes
from tests.chaos.test_training_kills import (
    cluster,
    task,
    test_killed_nodes_are_done_without,
    unbroken,
)

__all__ = [
    "cluster",
    "task",
    "test_a_checkpoint_is_left_before_the_node_goes",
    "test_a_group_whose_controller_is_killed_makes_room_for_the_next",
    "test_a_local_ray_and_an_endpoint_start_on_busy_cores",
    "test_killed_nodes_are_done_without",
    "unbroken",
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes once, and then a worker; one start on busy cores."""
    monkeypatch.setattr(busy, "STARTS", 1)
    monkeypatch.setattr(kills, "KILLS", 2)
