"""Failures have classes: what is retried, and what ends a run at once."""

from typing import Any, NoReturn

import pytest

from cluster.errors import InfrastructureError, UserError
from trainers.launch import _Verdict, interruptible, is_retryable


class DistBackendError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]"),
        RuntimeError("Connection reset by peer"),
        RuntimeError("Gloo connectFullMesh failed"),
        DistBackendError("NCCL error: remote process exited"),
        TimeoutError("Timed out waiting 1800000ms for recv operation"),
        BrokenPipeError(32, "Broken pipe"),
    ],
)
def test_a_lost_peer_is_worth_a_retry(error: Exception) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Expected input batch_size (4) to match target batch_size (3)"),
        RuntimeError("CUDA out of memory"),
        IndexError("index out of range in self"),
        FileNotFoundError("train.arrow"),
        UserError("workspace: connection reset by peer"),
        InfrastructureError("nccl gave out"),
    ],
)
def test_an_error_of_program_or_user_is_not(error: Exception) -> None:
    assert not is_retryable(error)


def test_the_first_error_that_retrying_cannot_mend_is_remembered() -> None:
    verdict = _Verdict()
    assert verdict.get() is None
    first = UserError("first")
    verdict.set(first)
    verdict.set(UserError("second"))
    assert verdict.get() is first


def test_an_interruptible_call_gives_its_result_and_its_errors() -> None:
    def fails() -> NoReturn:
        raise UserError("mend it")

    assert interruptible(lambda: 5) == 5
    with pytest.raises(UserError, match="mend it"):
        interruptible(fails)


def test_ctrl_c_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    forever = threading.Event()

    def interrupted(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    thread = threading.Thread
    monkeypatch.setattr(thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        interruptible(forever.wait)
    forever.set()
