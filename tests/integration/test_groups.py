"""Worker groups of Ray Train: what they share, and that what they hold comes free."""

import os
import signal
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import ray
from ray.util import placement_group, placement_group_table

from cluster.ray import session
from tests import numbered
from tests.fakes import Notes
from tests.integration.command import until
from trainers.engine.job import TrainJob
from trainers.launch.training import Limits, fit_all
from trainers.tasks.pretraining.config import Pretrain


@ray.remote(num_cpus=0)
class Controller:
    """As Ray Train's, it has a placement group, and a cleaner behind it."""

    def __init__(self) -> None:
        from cluster.ray.train_internals import placement_group_callback
        from trainers.launch import elastic  # noqa: F401  as a controller's callbacks do

        cleaning: Any = placement_group_callback.PlacementGroupCleanerCallback()
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
        until(lambda: placement_group_table(held)["state"] == "REMOVED")
        until(lambda: ray.available_resources().get("CPU") == 1)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of a training by two workers, by what they share."""
    task = numbered.task(tmp_path_factory.mktemp("mill"), rows=48)
    found = {}
    with mock.patch.dict(os.environ), session.connected(None, 2):
        for key in ("nothing", "sequence_parallel", "tensor_parallel"):
            shares = {} if key == "nothing" else {key: 2}
            keys = {"objective": "causal_lm", "model": {"architecture": "llama"}, "workers": 2}
            settings = Pretrain.model_validate(numbered.settings(**keys, **shares))
            found[key] = fit_all([TrainJob(lambda: task, settings, 17)], Notes(), Limits())[0][
                "loss"
            ]
    return found


@pytest.mark.parametrize("key", ["sequence_parallel", "tensor_parallel"])
def test_what_workers_share_does_not_count(key: str, losses: dict[str, float]) -> None:
    """In processes that nothing was trained in before, as a run has them."""
    assert losses[key] == pytest.approx(losses["nothing"], abs=1e-5)
