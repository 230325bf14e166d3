"""Ray Data begins at once, and does what it did."""

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import ray
import ray.data
from ray.util import list_named_actors

from cluster import ray_data, session


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    with mock.patch.dict(os.environ), session.connected(None, 2):
        yield


def doubled() -> list[int]:
    rows = ray.data.from_items([1, 2, 3], override_num_blocks=3)
    found = rows.map(lambda row: {"item": 2 * row["item"]}, compute=ray.data.TaskPoolStrategy(2))
    return sorted(row["item"] for row in found.iter_rows())


@pytest.mark.usefixtures("own_ray")
def test_it_starts_no_actor_on_a_ray_of_our_own() -> None:
    with ray_data.at_once():
        assert doubled() == [2, 4, 6]
    assert list_named_actors(all_namespaces=True) == []


@pytest.mark.usefixtures("own_ray")
def test_on_a_ray_of_others_it_asks_for_room_and_has_all_meanwhile(monkeypatch: Any) -> None:
    monkeypatch.setattr(ray_data, "is_ours", lambda: False)
    with ray_data.at_once():
        room = ray_data.autoscaling.DefaultAutoscalingCoordinator(requester_id="test")
        assert room.get_reserved_resources()[""]["CPU"] == 2
        assert doubled() == [2, 4, 6]
    names = {actor["name"] for actor in list_named_actors(all_namespaces=True)}
    assert "AutoscalingCoordinator" in names
