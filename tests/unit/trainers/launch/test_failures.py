"""Failures have classes: what comes again, with what, and what ends a run at once."""

from typing import Any

import pytest
import ray.exceptions
import ray.train
import torch
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from cluster.errors import InfrastructureError, UserError
from trainers.engine.job import Ended, TrainJob
from trainers.engine.training_config import Training
from trainers.launch.failures import HOUR_S, Attempts, Kind, failure, results
from trainers.tasks.pretraining.config import Pretrain

GLOO = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]")
DIED = WorkerHealthCheckFailedError("rank 1", ray.exceptions.ActorDiedError())


def group(*errors: Exception) -> ray.train.TrainingFailedError:
    return ray.train.WorkerGroupError("failed", dict(enumerate(errors)))


def task(cause: Exception) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("alone", "traceback", cause)


def job(**settings: Any) -> TrainJob:
    return TrainJob(None, Training(**settings), 17)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        group(GLOO),
        group(RuntimeError("Connection reset by peer")),
        group(ConnectionResetError(104, "...")),
        group(RuntimeError("Gloo connectFullMesh failed")),
        group(torch.distributed.DistBackendError("NCCL error: remote process exited")),
        group(TimeoutError("Timed out waiting 1800000ms for recv operation")),
        group(torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")),
        group(RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")),
        group(BrokenPipeError(32, "Broken pipe")),
        group(DIED),
        group(WorkerHealthCheckTimeoutError("rank 1")),
        group(KeyError("what a rank makes of the death of another"), DIED),
        ray.train.ControllerError(ray.exceptions.ActorDiedError()),
        ray.train.ControllerError(task(GLOO)),
        ray.train.ControllerError(KeyError("a callback")),
        ray.exceptions.ActorDiedError(),
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.NodeDiedError("node"),
    ],
)
def test_what_is_lost_comes_again(error: Exception) -> None:
    assert failure(error).is_loss


MISTAKES = [
    KeyError("timed out"),
    ValueError("out of memory"),
    FileNotFoundError(2, "No such file", "gloo/out of memory"),
    NotImplementedError("connection reset by peer"),
    ValueError("Expected input batch_size (4) to match target batch_size (3)"),
    IndexError("index out of range in self"),
    FileNotFoundError("train.arrow"),
    UserError("workspace: connection reset by peer"),
    InfrastructureError("nccl gave out"),
]


@pytest.mark.parametrize("error", MISTAKES)
def test_a_mistake_ends_the_run_whatever_the_other_ranks_say(error: Exception) -> None:
    for wrapped in (group(error), group(GLOO, error), group(error, GLOO), task(error)):
        found = failure(wrapped)
        assert found.kind in (Kind.MISTAKE, Kind.PROGRAM)
        assert found.error is error
        with pytest.raises(type(error)):
            Attempts(3).after(wrapped, job(), 0.0)


def test_the_users_mistake_counts_beside_a_death() -> None:
    assert failure(group(DIED, UserError("finetune.labels: ..."))).kind == Kind.MISTAKE


@pytest.mark.parametrize(
    "error",
    [
        group(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        group(GLOO, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")),
        group(MemoryError()),
        group(torch.distributed.DistBackendError("NCCL error: Cuda failure 2 'out of memory'")),
        group(OSError(12, "Cannot allocate memory")),
        group(GLOO, WorkerHealthCheckFailedError("rank 1", ray.exceptions.OutOfMemoryError("low"))),
        ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."),
        task(MemoryError()),
    ],
)
def test_less_memory_is_used_where_it_gave_out(error: Exception) -> None:
    assert failure(error).kind == Kind.MEMORY


def test_a_type_counts_before_the_text() -> None:
    died = ray.exceptions.WorkerCrashedError("out of memory; connection reset")
    assert failure(died).kind == Kind.DEATH
    assert failure(task(UserError("bad_alloc: timed out"))).kind == Kind.MISTAKE


def test_torch_says_that_memory_gave_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failure(group(caught.value)).kind == Kind.MEMORY


def test_a_training_that_left_its_node_goes_on_and_nothing_failed() -> None:
    begun, attempts = job(), Attempts(0)
    assert failure(group(GLOO, Ended())).kind == Kind.ENDED
    for _ in range(3):
        assert attempts.after(task(Ended()), begun, 0.0) == (
            begun,
            "its node is about to go; goes on elsewhere",
        )


def test_the_budget_is_of_a_sliding_hour() -> None:
    attempts = Attempts(2)
    assert "(1 of 2 failures an hour)" in attempts.after(group(DIED), job(), 0.0)[1]
    assert "(2 of 2 failures an hour)" in attempts.after(group(DIED), job(), 10.0)[1]
    for hour in range(1, 50):  # two an hour, for days
        attempts.after(group(DIED), job(), hour * HOUR_S)
        attempts.after(group(DIED), job(), hour * HOUR_S + 10)
    with pytest.raises(InfrastructureError, match=r"max_failures_per_hour = 2 times"):
        attempts.after(group(DIED), job(), 49 * HOUR_S + 20)


def test_the_micro_batch_is_halved_down_to_one_and_the_batch_stays() -> None:
    attempts, error = Attempts(0), group(torch.OutOfMemoryError("CUDA out of memory"))
    going_on, sizes = job(batch_size=24, micro_batch_size=64, workers=2), []
    for _ in range(3):
        going_on, told = attempts.after(error, going_on, 0.0)
        sizes.append(going_on.settings.micro_batch_size)
        assert f"micro_batch_size {sizes[-1]} in place of" in told
        assert going_on.settings.batch_size == 24
    assert sizes == [6, 3, 1], "a worker's share was 12, whatever it could have taken"
    with pytest.raises(InfrastructureError, match="activation_checkpointing"):
        attempts.after(error, going_on, 0.0)


def test_workers_that_share_layers_have_the_same_micro_batch() -> None:
    keys = {"objective": "causal_lm", "model": {"architecture": "llama"}, "tensor_parallel": 4}
    settings = Pretrain.model_validate({**keys, "workers": 4, "batch_size": 2})
    begun = TrainJob(None, settings, 17)  # type: ignore[arg-type]
    going_on, told = Attempts(0).after(task(MemoryError()), begun, 0.0)
    assert going_on.settings.micro_batch_size == 1
    assert "micro_batch_size 1 in place of 2" in told


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (task(UserError("mend it")).as_instanceof_cause(), UserError, "^mend it$"),
        (task(KeyError("a")).as_instanceof_cause(), KeyError, "^'a'$"),
        (ray.exceptions.WorkerCrashedError(), InfrastructureError, "a process was lost .*; run it"),
        (ray.exceptions.OutOfMemoryError("killed"), InfrastructureError, "lacked memory .*max_len"),
    ],
)
def test_of_a_task_that_failed_its_own_error_is_raised(
    error: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(kind, match=message) as raised:
        results([])
    assert type(raised.value) is kind
