"""A call that Ctrl-C ends, and what memory had room for."""

import dataclasses
import pickle
import re
import signal
import threading
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.artifacts import Draft
from cluster.errors import UserError
from cluster.progress import Relayed
from cluster.storage import Storage
from tests import numbered
from tests.fakes import Notes
from trainers import launch
from trainers.config.training import Training
from trainers.failures import Attempts
from trainers.groups import Cleaning
from trainers.job import TrainJob
from trainers.launch import interruptible


def test_a_smaller_micro_batch_is_kept_for_the_run_that_goes_on(tmp_path: Path) -> None:
    draft = Draft(Storage.at(str(tmp_path)), "model/tiny-pretrain-0")
    job = TrainJob(None, Training(batch_size=64, micro_batch_size=16), 17, draft)  # type: ignore[arg-type]
    assert launch._with_room(job) == job
    notes = Notes()
    assert launch._after(BrokenPipeError(32, "Broken pipe"), Attempts(1), job, notes) == job
    assert launch._with_room(job) == job, "that had nothing to do with memory"
    error = RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    )
    assert launch._after(error, Attempts(0), job, notes).settings.micro_batch_size == 8
    assert "micro_batch_size 8 in place of 16" in notes.lines[1]
    assert launch._with_room(job).settings == job.settings.model_copy(
        update={"micro_batch_size": 8}
    )
    sharded = Training(batch_size=64, micro_batch_size=16, zero={"stage": 3})  # type: ignore[arg-type]
    other = dataclasses.replace(job, settings=sharded)
    assert launch._with_room(other) == other, "which may have room for more"


def test_what_ray_trains_controller_gets_imports_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def fit(trainer: Any) -> Any:
        sent.append(pickle.dumps(trainer.train_run_context))
        callbacks = trainer._create_default_callbacks()
        cleaners = [one for one in callbacks if isinstance(one, PlacementGroupCleanerCallback)]
        assert [type(one) for one in cleaners] == [Cleaning]
        return mock.Mock()

    monkeypatch.setattr(DataParallelTrainer, "fit", fit)
    job = TrainJob(lambda: numbered.task(tmp_path, 4), Training(workers=2), 17)
    launch._group(job, Relayed(None), in_tune_trial=False)
    assert {*re.findall(rb"trainers\.\w+", sent[0])} == {
        b"trainers.elastic",
        b"trainers.groups",
    }


def test_an_interruptible_call_gives_its_result_and_its_errors() -> None:
    def fails() -> NoReturn:
        raise UserError("mend it")

    assert interruptible(lambda: 5) == 5
    with pytest.raises(UserError, match="mend it"):
        interruptible(fails)


@pytest.mark.parametrize("has_someone_to_ask", [False, True])
def test_ctrl_c_ends_the_wait_once_who_is_asked_has_ended(
    has_someone_to_ask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(launch, "GRACE_S", 30.0)

    def ask() -> bool:
        if has_someone_to_ask:
            threading.Timer(0.3, ended.set).start()
        return has_someone_to_ask

    interrupt = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        interruptible(ended.wait, ask)
    assert ended.is_set() == has_someone_to_ask
    ended.set()
