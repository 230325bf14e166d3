"""A call that Ctrl-C ends, and a wait for nodes."""

import pickle
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest
import ray
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.errors import InfrastructureError, UserError
from cluster.ray.stop_requests import StopFlag
from cluster.runs.progress import Relayed
from tests import numbered
from tests.fakes import Notes
from trainers.engine.job import TrainJob
from trainers.engine.training_config import Training
from trainers.launch import training
from trainers.launch.training import Limits, interruptible


def test_a_task_is_waited_for_while_a_node_can_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, answers = Notes(), iter([[], [], ["task"]])
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: (next(answers), []))
    monkeypatch.setattr(ray, "nodes", list)
    wait = Limits().wait("training", Training())
    assert training._first_ended(["task"], wait, notes) == "task"
    assert notes.lines == ["waits for nodes with room for its workers"]
    never = Limits(wait_for_node_minutes=-1.0).wait("training", Training())
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: ([], []))
    with pytest.raises(InfrastructureError, match="wait_for_node_minutes"):
        training._first_ended(["task"], never, notes)


def test_what_ray_trains_controller_gets_imports_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def fit(trainer: Any) -> Any:
        sent.append(pickle.dumps(trainer.train_run_context))
        return mock.Mock()

    monkeypatch.setattr(DataParallelTrainer, "fit", fit)
    job = TrainJob(lambda: numbered.task(tmp_path, 4), Training(workers=2), 17)
    wait = Limits().wait("training", job.settings)
    training._group(job, Relayed(None), None, wait, in_tune_trial=False)
    assert {*re.findall(rb"trainers(?:\.\w+)+", sent[0])} == {
        b"trainers.launch.elastic",
        b"trainers.launch.groups",
        b"trainers.launch.waiting",
    }


def test_gpus_speak_by_nccl_and_all_else_by_gloo() -> None:
    assert training._backend(Training()) == "gloo"
    assert training._backend(Training(gpus_per_worker=1)) == "cpu:gloo,cuda:nccl"


def test_a_training_of_one_worker_holds_the_gpu_that_it_computes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "remote", lambda **keys: asked.append(keys) or mock.MagicMock())
    for gpus in (0.0, 0.5, 1.0):
        settings = Training(cpus_per_worker=2, gpus_per_worker=gpus)
        training._start_task(TrainJob(mock.Mock(), settings, 17), Relayed(None), None)
        assert (asked[-1]["num_cpus"], asked[-1]["num_gpus"]) == (2, gpus)


def test_no_jobs_are_no_trainings() -> None:
    assert training.fit_all([], Notes(), training.Limits()) == []


def test_an_interruptible_call_gives_its_result_and_its_errors() -> None:
    def fails() -> NoReturn:
        raise UserError("mend it")

    assert interruptible(lambda: 5) == 5
    with pytest.raises(UserError, match="mend it"):
        interruptible(fails)


class Flag(StopFlag):
    """`stopping` is what the training does when a stop is requested; None: it looks at no flag."""

    def __init__(self, stopping: Callable[[], Any] | None):
        self._stopping = stopping

    def request_stop(self, timeout_s: float = 5.0) -> bool:
        if self._stopping is not None:
            self._stopping()
        return self._stopping is not None


def interrupted(flag: StopFlag | None, ended: threading.Event) -> list[str]:
    """Ctrl-C while something runs until `ended`; returns what was told."""
    notes = Notes()

    def runs() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.wait()

    with pytest.raises(KeyboardInterrupt):
        interruptible(runs, flag, notes)
    return notes.lines


def test_ctrl_c_waits_for_a_training_that_stops_as_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "GRACE_S", 600.0)
    ended = threading.Event()
    assert interrupted(Flag(threading.Timer(0.3, ended.set).start), ended) == []
    assert ended.is_set()


@pytest.mark.parametrize("flag", [None, Flag(None)])
def test_ctrl_c_waits_for_nothing_that_looks_at_no_flag(flag: StopFlag | None) -> None:
    ended = threading.Event()
    assert interrupted(flag, ended) == []
    assert not ended.is_set()
    ended.set()


def test_a_checkpoint_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "GRACE_S", 0.1)
    ended = threading.Event()
    assert interrupted(Flag(lambda: None), ended) == [training.NO_CHECKPOINT]

    def gone() -> None:
        raise ray.exceptions.GetTimeoutError

    assert interrupted(Flag(gone), ended) == [training.NO_ANSWER]
    ended.set()
