"""A Serve that is slow to start is waited for, and told of when that does not help."""

from typing import Any

import pytest
from ray import serve
from ray.exceptions import ActorDiedError

from cluster.errors import InfrastructureError
from serving.config import Serve
from serving.rollout import deploy
from tests.fakes import Notes


def failing(errors: list[Exception]) -> Any:
    def start(**_: Any) -> None:
        if errors:
            raise errors.pop(0)

    return start


def test_slow_proxies_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [ActorDiedError(), TimeoutError("HTTP proxies not available after 60s.")]
    monkeypatch.setattr(serve, "start", failing(errors))
    monkeypatch.setattr(deploy, "RETRY_INTERVAL_S", 0.0)
    notes = Notes()
    deploy.start(Serve(), notes)
    assert notes.lines == ["Ray Serve is slow to start; waiting for it"] * 2


def test_proxies_that_stay_away_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "start", failing([ActorDiedError()]))
    monkeypatch.setattr(deploy, "START_TIMEOUT_S", 0.0)
    with pytest.raises(InfrastructureError, match="run again: what is trained is kept"):
        deploy.start(Serve(), Notes())
