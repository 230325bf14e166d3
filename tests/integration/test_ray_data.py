"""Ray Data begins at once on a Ray of our own, and does what it did."""

import os
from typing import Any
from unittest import mock

import ray
import ray.data
from ray.util import list_named_actors

from cluster.ray import ray_data, session


def doubled() -> list[int]:
    rows = ray.data.from_items([1, 2, 3], override_num_blocks=3)
    found = rows.map(lambda row: {"item": 2 * row["item"]}, compute=ray.data.TaskPoolStrategy(2))
    return sorted(row["item"] for row in found.iter_rows())


def named_actors() -> set[str]:
    return {actor["name"] for actor in list_named_actors(all_namespaces=True)}


def test_it_asks_for_room_only_on_a_ray_of_others(monkeypatch: Any) -> None:
    with mock.patch.dict(os.environ), session.connected(None, 2):
        with ray_data.at_once():
            room = ray_data.autoscaling.DefaultAutoscalingCoordinator("test")
            assert room.get_reserved_resources()["test"]["CPU"] == 2
            assert doubled() == [2, 4, 6]
        assert named_actors() == set()
        monkeypatch.setattr(ray_data, "is_ours", lambda: False)
        with ray_data.at_once():
            assert doubled() == [2, 4, 6]
        assert "AutoscalingCoordinator" in named_actors()
