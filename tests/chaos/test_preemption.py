"""A node that Ray is told to drain: the training leaves a checkpoint while it is still there, and
goes on elsewhere when it is gone."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.chaos.test_training_kills import SEED, cluster, fill
from tests.fakes import Notes
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch import training

__all__ = ["cluster"]

ROWS, EPOCHS, DEADLINE_S = 240, 4, 30.0


def drained(cluster: Cluster, folder: Path, records: Path) -> None:
    """Waits for the training, then announces the end of one of its nodes, and ends it."""
    while len(numbered.records(records)) < 20:
        time.sleep(0.2)
    assert not list(folder.glob("work/*/step-*/record.json"))
    used = {psutil.Process(int(path.stem)).ppid() for path in records.glob("*.jsonl")}
    node = next(
        one for one in cluster.worker_nodes if one.all_processes["raylet"][0].process.pid in used
    )
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + DEADLINE_S) * 1000)
    accepted, why = GcsClient(address=cluster.address).drain_node(
        node.node_id, reason, "taken back", deadline_ms
    )
    assert accepted, why
    while not list(folder.glob("work/*/step-*/record.json")):
        time.sleep(0.1)
    time.sleep(max(0.0, deadline_ms / 1000 - time.time()))
    cluster.remove_node(node, allow_graceful=False)
    (records / numbered.SLOW).unlink()


def test_a_checkpoint_is_left_before_the_node_goes(cluster: Cluster, tmp_path: Path) -> None:
    lines = lines_of_a_training(cluster, tmp_path, workers=2)
    assert "a node is about to go; leaves a checkpoint" in lines


def test_a_training_of_one_worker_goes_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    lines = lines_of_a_training(cluster, tmp_path, workers=1)
    assert "its node is about to go; goes on elsewhere" in lines


def lines_of_a_training(cluster: Cluster, tmp_path: Path, workers: int) -> list[str]:
    """Trains through the end of a node; returns what was told."""
    fill(cluster)
    records = tmp_path / "records"
    records.mkdir()
    (records / numbered.SLOW).touch()
    task = numbered.Recorded(numbered.task(tmp_path / "mill", ROWS), records)
    keys: dict[str, Any] = numbered.settings(epochs=EPOCHS, workers=workers, checkpoint_minutes=100)
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    notes = Notes()
    draining = threading.Thread(target=drained, args=(cluster, tmp_path, records), daemon=True)
    draining.start()
    # Not one failure is allowed: the end of a node that was announced is none.
    job = TrainJob(lambda: task, Training.model_validate(keys), SEED, draft)
    training.fit_all([job], notes, training.Limits())
    draining.join(600)
    print("\n".join(notes.lines))
    assert not draining.is_alive(), "a checkpoint came while the node was there"
    assert any("resumes from checkpoint" in line for line in notes.lines)
    steps = numbered.learned(records, batch_size=12)
    numbered.assert_each_once_an_epoch(steps, ROWS, batch_size=12, epochs=EPOCHS)
    return notes.lines
