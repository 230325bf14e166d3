"""What ends a whole search, and what only a trial of it."""

import pytest
import ray.exceptions

from cluster.errors import Diverged, InfrastructureError, UserError
from tests.fakes import Notes
from trainers.engine.training_config import Training
from trainers.launch.training import Limits
from tuning.search import _Watch, mistake_of_all


def task_error(cause: Exception) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("trial", "traceback", cause)


def test_a_mistake_is_of_all_trials_and_divergence_of_one() -> None:
    mistake = UserError("finetune.labels: ...")
    diverged = task_error(Diverged("anomalies: step 3 ..."))
    lost = task_error(InfrastructureError("training gave up"))
    assert mistake_of_all([diverged, lost, RuntimeError("a bug")]) is None
    assert mistake_of_all([diverged, task_error(mistake), lost]) is mistake
    assert mistake_of_all([mistake]) is mistake


def test_a_search_waits_for_nodes_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", list)
    wait = Limits(wait_for_node_minutes=-1.0).wait("search", Training())
    watch, told = _Watch([], "accuracy", 3, wait, Notes()), "search gave up: no node had room"
    with pytest.raises(InfrastructureError, match=told):
        watch.on_step_end(1, [])
