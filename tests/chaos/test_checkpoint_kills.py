"""Kills at random moments while two processes write checkpoints. What is loaded afterwards is one
of them whole, and never an earlier one than was whole before.

`KILLS=5 pytest tests/chaos/test_checkpoint_kills.py` is a shorter form.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from tests.unit.trainers.checkpoints.conftest import Engine
from trainers.checkpoints.restoring import restore
from trainers.checkpoints.saving import Checkpoints
from trainers.checkpoints.state import LoopState

KILLS = int(os.environ.get("KILLS", "50"))
WORKERS, SIZE = 2, 2_000_000
FORK = multiprocessing.get_context("fork")  # which does not import torch anew each time


def in_world(rank: int, workers: int, store: Path, function: Callable[[], None]) -> None:
    os.environ.update(LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(workers))
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(store), workers), rank=rank, world_size=workers
    )
    function()


def goes_on(storage: Storage, ready: Path) -> None:
    """A training whose weights are the number of the step, with a checkpoint after each."""
    engine = Engine(size=SIZE)
    checkpoints = Checkpoints(engine, Draft(storage, "model/demo"), 2, Notes())
    state = checkpoints.restore()
    assert state is not None
    assert engine.numbers == {state.step}
    ready.touch()
    while True:
        state.step += 1
        engine.fill(state.step)
        checkpoints.save(state)


def begins(storage: Storage) -> None:
    engine = Engine(size=SIZE)
    with Checkpoints(engine, Draft(storage, "model/demo"), 2, Notes()) as checkpoints:
        engine.fill(1)
        checkpoints.save(LoopState(step=1))


def looks(storage: Storage, found: Path) -> None:
    """What a single worker would go on from."""
    engine, notes = Engine(size=SIZE), Notes()
    state = restore(engine, Draft(storage, "model/demo"), notes).state
    assert state is not None
    assert engine.numbers == {state.step}
    found.write_text(json.dumps({"step": state.step, "said": notes.lines}))


def started(workers: int, folder: Path, function: Callable[[], None]) -> list[Any]:
    store = folder / f"store-{time.monotonic_ns()}"
    processes = [
        FORK.Process(target=in_world, args=(rank, workers, store, function))
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    return processes


def test_kills_while_checkpoints_are_written_cost_the_last_one_at_most(tmp_path: Path) -> None:
    draw, storage = random.Random(17), Storage.at(str(tmp_path / "workspace"))
    for process in started(1, tmp_path, lambda: begins(storage)):
        process.join()
        assert process.exitcode == 0
    last, unfinished = 1, 0
    for kill in range(KILLS):
        ready = tmp_path / f"ready-{kill}"
        processes = started(WORKERS, tmp_path, lambda ready=ready: goes_on(storage, ready))
        while not ready.exists():
            assert all(process.is_alive() for process in processes)
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.6))
        killed = draw.choice([processes, processes[:1], processes[1:]])
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(draw.choice([0.0, 0.3]))  # the other one may still write
        for process in processes:
            process.kill()
            process.join()
        folders = storage.folders("work/demo")
        records = list((tmp_path / "workspace").glob("work/demo/*/record.json"))
        unfinished += len(folders) > len(records)
        found = tmp_path / f"found-{kill}"
        for process in started(1, tmp_path, lambda found=found: looks(storage, found)):
            process.join()
            assert process.exitcode == 0
        loaded = json.loads(found.read_text())
        assert loaded["step"] >= last
        assert len(loaded["said"]) == 1, "none that is damaged"
        last = loaded["step"]
    print(f"{KILLS} kills, {unfinished} of them of a checkpoint under way, {last} steps")
    assert unfinished > KILLS // 10


pytestmark = pytest.mark.timeout(3600)
