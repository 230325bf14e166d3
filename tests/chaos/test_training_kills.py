"""Kills at random moments of a training: of workers, and of whole nodes of a cluster of three.

`KILLS=3 pytest tests/chaos/test_training_kills.py` is a shorter form.
"""

import contextlib
import dataclasses
import functools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
import torch.distributed as dist
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.authentication_test_utils import reset_auth_token_state
from ray.cluster_utils import Cluster
from torch import Tensor

from cluster.ray import session
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.fakes import Notes
from tests.integration.command import until
from tests.wrapped import Wrapped
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch import training
from trainers.tasks.task import Batch, Task

KILLS = int(os.environ.get("KILLS", "20"))
NODES, ROWS, EPOCHS, SEED = 3, 480, 15, 17
STARTER = ThreadPoolExecutor(1)
"""Starts nodes that came back: Ray's processes end with the thread that started them, and this one
stays."""


def started(start: Callable[[], Any]) -> Any:
    """Starts a node again whose raylet was too slow, for which Ray raises a plain Exception."""
    for _ in range(5):
        try:
            return start()
        except Exception as error:
            if type(error) is not Exception:
                raise
    return start()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes of one CPU, and a head of none, to which this process is connected."""
    with pytest.MonkeyPatch.context() as patch:
        session.set_environment()
        # What this process does about tokens, and a cluster that it starts, must be the same; it
        # may have had other Rays.
        patch.setenv("RAY_AUTH_MODE", "token")
        reset_auth_token_state()
        ensure_token_if_auth_enabled()
        # Which only the main thread can do, and nodes are added by others.
        patch.setattr(ray._private.utils, "set_sigterm_handler", lambda handler: None)
        # A node that was killed answers no check at once; five such in a row are its end.
        checks = {"health_check_period_ms": 1000}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": checks}
        made = started(lambda: Cluster(initialize_head=True, head_node_args=head))
        for _ in range(NODES):
            started(lambda: made.add_node(num_cpus=1))
        try:
            with session.connected(made.address, None):
                yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return numbered.task(tmp_path_factory.mktemp("mill"), ROWS)


class Timed(Notes):
    """Prints what it is told, with the seconds since the training began."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def line(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} {text}")
        super().line(text)


def trained(task: Task, folder: Path, workers: Any) -> dict[str, Any]:
    settings = Training.model_validate(numbered.settings(epochs=EPOCHS, workers=workers))
    draft = Draft(Storage.at(str(folder)), "model/tiny-pretrain-0")
    return training.fit_all(
        [TrainJob(lambda: task, settings, SEED, draft)], Timed(), training.Limits(KILLS)
    )[0]


@pytest.fixture(scope="module")
def unbroken(task: Task, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The loss of a training that nothing happens to, by its number of workers."""

    @functools.cache
    def loss(workers: int) -> float:
        fill(cluster)
        return float(trained(task, tmp_path_factory.mktemp("unbroken"), workers)["loss"])

    return loss


def written(folder: Path) -> float:
    """When the newest checkpoint was."""
    times = [0.0]
    for path in folder.glob("work/*/step-*/record.json"):
        with contextlib.suppress(FileNotFoundError):  # it is one too many just now
            times.append(path.stat().st_mtime)
    return max(times)


@contextlib.contextmanager
def killing(folder: Path, records: Path, kill: Callable[[], float]) -> Iterator[list[float]]:
    """Calls `kill` again and again in a thread, each time after a further checkpoint. Yields
    what it returns: when it killed."""
    draw, times = random.Random(SEED), list[float]()
    failures: list[BaseException] = []
    ended = threading.Event()
    slow = records / numbered.SLOW
    slow.touch()

    def go_on() -> None:
        try:
            while len(times) < KILLS:
                began = time.time()
                while written(folder) < began:
                    if ended.wait(0.1):
                        return
                ended.wait(draw.uniform(0.0, 3.0))
                times.append(kill())
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            slow.unlink()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()
    assert not failures


def fill(cluster: Cluster) -> None:
    """Brings the nodes back."""
    while len(cluster.worker_nodes) < NODES:
        STARTER.submit(started, lambda: cluster.add_node(num_cpus=1)).result()


def kill_a_worker(draw: random.Random) -> float:
    workers, now = [], time.time()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if " ".join(process.cmdline()).startswith("ray::RayTrainWorker"):
                workers.append(process.pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(workers), signal.SIGKILL)
    return now


def assert_all_was_learned_once(records: Path, kills: list[float]) -> None:
    times = sorted(record["time"] for record in numbered.records(records))
    pauses = [next((at for at in times if at > kill + 3.0), kill) - kill for kill in kills]
    print("seconds from a kill to the next step:", [round(pause, 1) for pause in pauses])
    steps = numbered.learned(records, batch_size=12)
    numbered.assert_each_once_an_epoch(steps, ROWS, batch_size=12, epochs=EPOCHS)


def test_killed_workers_cost_nothing(
    task: Task, unbroken: Any, cluster: Cluster, tmp_path: Path
) -> None:
    draw, records = random.Random(SEED), tmp_path / "records"
    records.mkdir()
    recorded = numbered.Recorded(task, records)
    with killing(tmp_path, records, lambda: kill_a_worker(draw)) as kills:
        metrics = trained(recorded, tmp_path, 2)
    assert len(kills) == KILLS
    assert_all_was_learned_once(records, kills)
    assert metrics["loss"] == pytest.approx(unbroken(2), abs=1e-6)


def test_killed_nodes_are_done_without(
    task: Task, unbroken: Any, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cluster)
    monkeypatch.setattr(training, "RESIZE_INTERVAL_S", 5.0)
    draw, records = random.Random(SEED), tmp_path / "records"
    records.mkdir()

    def trains(since: float, is_whole: bool) -> bool:
        return any(
            (record["workers"] == NODES) == is_whole and record["time"] > since
            for record in numbered.records(records)
        )

    def kill() -> float:
        """One node or two, which come back once it goes on without, and are taken in; and in turn a
        worker."""
        if len(kills) % 2:
            return kill_a_worker(draw)
        now = time.time()
        for node in draw.sample(list(cluster.worker_nodes), draw.choice([1, 2])):
            cluster.remove_node(node, allow_graceful=False)
        print(f"{len(cluster.worker_nodes)} nodes are left")
        until(lambda: trains(now, is_whole=False))
        fill(cluster)
        back = time.time()
        until(lambda: trains(back, is_whole=True))
        return now

    recorded = numbered.Recorded(task, records)
    with killing(tmp_path, records, lambda: kill()) as kills:
        metrics = trained(recorded, tmp_path, {"min": 1, "max": NODES})
    assert len(kills) == KILLS
    assert_all_was_learned_once(records, kills)
    groups = {record["workers"] for record in numbered.records(records)}
    print("workers:", sorted(groups))
    assert len(groups) > 1, "it went on with other numbers of workers"
    assert metrics["loss"] == pytest.approx(unbroken(1), abs=1e-4)


@dataclasses.dataclass(frozen=True)
class Hungry(Wrapped):
    """The second worker has no memory for more than one sequence."""

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        if dist.get_rank() == 1 and len(batch["numbers"]) > 1:
            torch.empty(1 << 60, dtype=torch.uint8)
        return loss


def test_memory_that_one_worker_lacks_is_done_without(
    task: Task, unbroken: Any, cluster: Cluster, tmp_path: Path
) -> None:
    fill(cluster)
    metrics = trained(Hungry(task), tmp_path, 2)
    assert metrics["loss"] == pytest.approx(unbroken(2), abs=1e-5)


pytestmark = pytest.mark.timeout(3600)
