"""How a single worker learns that its node is about to go."""

from collections.abc import Iterator

import pytest
import ray
from ray._private.state import state

from trainers.engine import stop_requests


class Context:
    def get_node_id(self) -> str:
        return "here"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_requests, "NODE_INTERVAL_S", 0.001)
    monkeypatch.setattr(ray, "get_runtime_context", Context)


def announcing(answers: list[dict[str, int] | Exception], patch: pytest.MonkeyPatch) -> None:
    """Ray gives these answers one after the other, the last of them from then on."""
    remaining: Iterator[dict[str, int] | Exception] = iter(answers[:-1])

    def draining_nodes() -> dict[str, int]:
        answer = next(remaining, answers[-1])
        if isinstance(answer, Exception):
            raise answer
        return answer

    patch.setattr(state, "get_draining_nodes", draining_nodes)


def test_the_announced_end_of_its_own_node_sets_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ray.exceptions.RaySystemError("the head does not answer")
    announcing([{}, gone, {"elsewhere": 5}, {"elsewhere": 5, "here": 0}], monkeypatch)
    with stop_requests.announced_end_of_node() as goes:
        assert goes.wait(600)


def test_the_end_of_another_node_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    announcing([{"elsewhere": 5}], monkeypatch)
    with stop_requests.announced_end_of_node() as goes:
        assert not goes.wait(0.05)
