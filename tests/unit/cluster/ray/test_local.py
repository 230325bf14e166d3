"""What is too slow to start is started again, and told of when that does not help."""

import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import ray

from cluster.errors import InfrastructureError
from cluster.ray import local

SLOW = Exception("The current node timed out during startup.")


def start(cpus: int) -> None:
    with local.running(cpus):
        raise AssertionError("Ray did not start")


def test_a_ray_that_was_too_slow_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def init(**_: Any) -> None:
        if not left:
            left.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            raise SLOW

    monkeypatch.setattr(ray, "init", init)
    with local.running(2):
        # The limit only bounds a hang.
        assert left[0].wait(600) < 0, "what the first one started is ended"


def test_a_ray_that_a_signal_ended_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[threading.Thread] = []
    is_killed = threading.Event()

    def init(**_: Any) -> None:
        starts.append(threading.current_thread())
        if len(starts) == 1:
            signal.raise_signal(signal.SIGINT)
            is_killed.wait()
            raise SLOW

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local, "_end", lambda _: is_killed.set())
    with pytest.raises(KeyboardInterrupt):
        start(2)
    starts[0].join()
    assert len(starts) == 1


def test_a_ray_that_stays_too_slow_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise SLOW

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local, "START_TIMEOUT_S", 0.0)
    with pytest.raises(InfrastructureError, match="end other work that keeps its cores busy"):
        start(2)


def test_what_time_does_not_mend_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="no such thing"):
        start(2)
