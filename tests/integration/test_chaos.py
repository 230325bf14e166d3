"""A short form of the faults of tests/chaos that need a cluster of several nodes."""

import pytest

from tests.chaos import test_preemption as preemption
from tests.chaos import test_training_kills as kills
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
    "test_killed_nodes_are_done_without",
    "unbroken",
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes once, in fewer steps."""
    monkeypatch.setattr(kills, "KILLS", 1)
    monkeypatch.setattr(kills, "EPOCHS", 8)
    monkeypatch.setattr(preemption, "EPOCHS", 3)
    monkeypatch.setattr(preemption, "DEADLINE_S", 10.0)
