"""A training or a search whose nodes are all gone gives up after a while."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from cluster.errors import InfrastructureError
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.chaos.test_training_kills import SEED, cluster, fill
from tests.fakes import Notes
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch import training
from tuning import search
from tuning.config import Tune
from tuning.winner import Trial

__all__ = ["cluster"]

ROWS, EPOCHS = 240, 4
MINUTES = 0.2


def lose_nodes(cluster: Cluster, is_under_way: Callable[[], Any]) -> None:
    """Ends every node that trains, once something is under way."""

    def lose() -> None:
        while not is_under_way():
            time.sleep(0.2)
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=lose, daemon=True).start()


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Of trainings that take their time."""
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / numbered.SLOW).touch()
    return folder


@pytest.mark.parametrize("workers", [1, 2, {"min": 1, "max": 2}])
def test_a_training_gives_up_and_keeps_its_checkpoint(
    cluster: Cluster, tmp_path: Path, records: Path, workers: Any
) -> None:
    fill(cluster)
    task = numbered.Recorded(numbered.task(tmp_path / "mill", ROWS), records)
    keys: dict[str, Any] = numbered.settings(
        epochs=EPOCHS, workers=workers, checkpoint_minutes=100, checkpoint_steps=3
    )
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    job = TrainJob(lambda: task, Training.model_validate(keys), SEED, draft)
    lose_nodes(cluster, lambda: list(tmp_path.glob("work/*/step-*/record.json")))
    notes = Notes()
    with pytest.raises(InfrastructureError, match=r"wait_for_node_minutes = 0\.2; .* run again"):
        training.fit_all([job], notes, training.Limits(3, MINUTES))
    assert any("waits for" in line for line in notes.lines)
    assert list(tmp_path.glob("work/*/step-*/record.json"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_gives_up(cluster: Cluster, tmp_path: Path, records: Path, workers: int) -> None:
    """Some of its trials have ended with their nodes by then, and others wait for one."""
    fill(cluster)
    task = numbered.Recorded(numbered.task(tmp_path / "mill", ROWS), records)
    settings = Training.model_validate(numbered.settings(epochs=EPOCHS, workers=workers))
    jobs, trials = [TrainJob(lambda: task, settings, SEED)] * 4, [Trial(n, {}) for n in range(4)]
    tune = Tune.model_validate({"space": {"finetune.epochs": {"choice": [1]}}})
    lose_nodes(cluster, lambda: numbered.records(records))
    each, limits, notes = settings.resources, training.Limits(0, MINUTES), Notes()
    with pytest.raises(InfrastructureError, match=r"search gave up: .* = 0\.2; .* run again"):
        search._search(tune, "accuracy", "max", jobs, trials, each, 1, limits, notes)
    assert any("waits for" in line for line in notes.lines)


pytestmark = pytest.mark.timeout(600)
