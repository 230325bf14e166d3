"""A stop is requested by the driver, and seen by workers that look."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.ray import stop_requests
from cluster.ray.stop_requests import StopFlag


class Actor:
    """The actor in this process; a call of it is answered once `answers` is true."""

    def __init__(self) -> None:
        self._flag = stop_requests._Flag()
        self.calls = 0
        self.answers = True

    def __getattr__(self, name: str) -> Any:
        def remote() -> Any:
            self.calls += 1
            return getattr(self._flag, name)()

        return SimpleNamespace(remote=remote)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    actor = Actor()
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)
    monkeypatch.setattr(
        ray, "wait", lambda refs, timeout: (refs, []) if actor.answers else ([], refs)
    )
    return actor


def test_a_stop_is_seen_and_the_driver_knows_whether_anyone_looks(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_requests, "INTERVAL_S", 0.0)
    driver, worker = StopFlag(actor), StopFlag(actor)
    assert not driver.request_stop(), "nothing looks at it"
    actor._flag = stop_requests._Flag()
    assert not worker.stop_requested()
    assert driver.request_stop()
    assert worker.stop_requested()


def test_a_worker_waits_for_no_answer_and_does_not_ask_twice(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_requests, "INTERVAL_S", 0.0)
    worker = StopFlag(actor)
    actor._flag.request_stop()
    actor.answers = False
    assert not any(worker.stop_requested() for _ in range(5))
    assert actor.calls == 1
    actor.answers = True
    assert worker.stop_requested()
    monkeypatch.setattr(stop_requests, "INTERVAL_S", 3600.0)
    assert not worker.stop_requested()
    assert actor.calls == 1
