"""A training whose nodes are all gone gives up after a while, and keeps its checkpoint."""

import threading
import time
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

__all__ = ["cluster"]

ROWS, EPOCHS = 240, 4
MINUTES = 0.2


def gone(cluster: Cluster, folder: Path) -> None:
    """Waits for a checkpoint, then ends every node that trains."""
    while not list(folder.glob("work/*/step-*/record.json")):
        time.sleep(0.2)
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)


@pytest.mark.parametrize("workers", [1, 2, {"min": 1, "max": 2}])
def test_the_run_gives_up_and_says_what_to_do(
    cluster: Cluster, tmp_path: Path, workers: Any
) -> None:
    fill(cluster)
    records = tmp_path / "records"
    records.mkdir()
    (records / numbered.SLOW).touch()
    task = numbered.Recorded(numbered.task(tmp_path / "mill", ROWS), records)
    keys: dict[str, Any] = numbered.settings(
        epochs=EPOCHS, workers=workers, checkpoint_minutes=100, checkpoint_steps=3
    )
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    job = TrainJob(lambda: task, Training.model_validate(keys), SEED, draft)
    threading.Thread(target=gone, args=(cluster, tmp_path), daemon=True).start()
    notes = Notes()
    with pytest.raises(InfrastructureError, match=r"wait_for_node_minutes = 0\.2; .* run again"):
        training.fit_all([job], notes, training.Limits(3, MINUTES))
    assert any("waits for" in line for line in notes.lines)
    assert list(tmp_path.glob("work/*/step-*/record.json"))


pytestmark = pytest.mark.timeout(600)
