"""What a worker group holds comes free."""

import os
import signal
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from ray.util import placement_group, placement_group_table

from cluster import session
from tests.integration.command import until
from trainers.groups import Cleaning


@ray.remote(num_cpus=0)
class Controller:
    """As Ray Train's, it has a placement group, and a cleaner behind it."""

    def __init__(self) -> None:
        cleaning: Any = Cleaning(check_interval_s=0.2)
        cleaning.after_controller_start(SimpleNamespace(run_id="run"))
        self.held = placement_group([{"CPU": 1}])
        ray.get([self.held.ready(), cleaning._cleaner.register_placement_group.remote(self.held)])

    def own(self) -> tuple[int, Any]:
        return os.getpid(), self.held


def test_the_room_of_a_group_whose_controller_is_killed_comes_free() -> None:
    """Its placement group would outlive it, and no other group start. There is no dashboard."""
    with mock.patch.dict(os.environ), session.connected(None, 1):
        pid, held = ray.get(Controller.remote().own.remote())
        assert ray.available_resources().get("CPU", 0) == 0
        os.kill(pid, signal.SIGKILL)
        until(lambda: placement_group_table(held)["state"] == "REMOVED", 20)
        until(lambda: ray.available_resources().get("CPU") == 1, 20)
