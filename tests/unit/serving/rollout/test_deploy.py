"""A Serve that is slow to start is waited for, and told of when that does not help."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeStatus

from cluster.errors import InfrastructureError
from serving.config import Serve
from serving.rollout import deploy
from tests.fakes import Notes

SLOW = "Ray Serve is slow to start; waiting for it"
NO_ROOM = "Resources required for each replica: {'CPU': 9.0}"


class FakeServe:
    """Ray Serve, whose calls raise these errors first. The application is in each of these states
    once, and stays in the last."""

    def __init__(self, *states: str):
        self.states = list(states)
        self.start_errors: list[Exception] = []
        self.run_errors: list[Exception] = []
        self.deployed: list[str] = []

    def start(self, **_: Any) -> None:
        if self.start_errors:
            raise self.start_errors.pop(0)

    def run_many(self, targets: list[serve.RunTarget], **waits: bool) -> None:
        assert list(waits.values()) == [False, False], "Serve would wait without end"
        self.deployed += [target.name for target in targets]
        if self.run_errors:
            raise self.run_errors.pop(0)

    def status(self) -> ServeStatus:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        deployment: Any = SimpleNamespace(message=NO_ROOM)
        application = ApplicationStatusOverview(
            ApplicationStatus(state), "", 0.0, {"Endpoint": deployment}
        )
        return ServeStatus(applications=dict.fromkeys(self.deployed, application))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeServe]:
    def make(*states: str) -> FakeServe:
        made = FakeServe(*states)
        for name in ("start", "run_many", "status"):
            monkeypatch.setattr(serve, name, getattr(made, name))
        monkeypatch.setattr(deploy, "RETRY_INTERVAL_S", 0.0)
        return made

    return make


def run(notes: Notes) -> None:
    target: Any = None
    deploy.run(target, "demo", Serve(), notes)


def test_slow_proxies_are_waited_for(fake: Callable[..., FakeServe]) -> None:
    made, notes = fake("DEPLOYING", "UNHEALTHY", "DEPLOYING", "RUNNING"), Notes()
    made.start_errors = [ActorDiedError(), TimeoutError("HTTP proxies not available after 60s.")]
    made.run_errors = [TimeoutError("Proxies not available after 60s.")]
    run(notes)
    assert notes.lines == [SLOW] * 3
    assert made.deployed == ["demo"], "once: a second time would start its replicas anew"
    assert made.states == ["RUNNING"]


def test_proxies_that_stay_away_are_told_of(
    fake: Callable[..., FakeServe], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("RUNNING").start_errors = [ActorDiedError()]
    monkeypatch.setattr(deploy, "START_TIMEOUT_S", 0.0)
    with pytest.raises(InfrastructureError, match="run again: what is trained is kept"):
        run(Notes())


def test_an_application_that_fails_is_told_of_at_once(fake: Callable[..., FakeServe]) -> None:
    fake("DEPLOYING", "DEPLOY_FAILED")
    with pytest.raises(InfrastructureError, match=f"demo does not run, it is DEPLOY.*{NO_ROOM}"):
        run(Notes())


@pytest.mark.parametrize("state", ["DEPLOYING", "UNHEALTHY"])
def test_a_replica_that_finds_no_room_is_not_waited_for_without_end(
    state: str, fake: Callable[..., FakeServe], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(state)
    monkeypatch.setattr(deploy, "START_TIMEOUT_S", 0.0)
    with pytest.raises(
        InfrastructureError, match=f"{state} after 0 min.*_replica lower.*{NO_ROOM}"
    ):
        run(Notes())


def test_what_serve_does_not_know_does_not_run() -> None:
    assert deploy.state_of("demo", ServeStatus()) == ("NOT_STARTED", "Ray Serve does not know it")


def test_answers_of_the_version_before_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = ["old", "old", "new", "old"]
    monkeypatch.setattr(deploy, "RETRY_INTERVAL_S", 0.0)
    monkeypatch.setattr(deploy, "post", lambda *_: {"version": versions.pop(0)})
    assert deploy.answer_of("version", "new", "http://demo", "{}") == {"version": "new"}
    monkeypatch.setattr(deploy, "ROLLOUT_TIMEOUT_S", 0.0)
    with pytest.raises(InfrastructureError, match="answers as version old, not new"):
        deploy.answer_of("version", "new", "http://demo", "{}")
