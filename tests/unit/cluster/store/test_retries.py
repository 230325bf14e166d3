import errno

import pytest

from cluster.store import retries
from cluster.store.retries import may_pass, retried


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited."""
    waited: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    return waited


class Failing:
    """Fails a number of times before it answers."""

    def __init__(self, times: int, error: Exception):
        self.calls, self._times, self._error = 0, times, error

    def __call__(self, answer: str) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return answer


def call(failing: Failing) -> str:
    return retried(lambda answer: failing(answer))("done")


def test_what_passes_is_tried_again_after_longer_and_longer(pauses: list[float]) -> None:
    assert call(Failing(3, OSError("AWS Error SLOW_DOWN during PutObject operation"))) == "done"
    assert len(pauses) == 3
    assert all(
        0.5 * given <= found <= 1.5 * given
        for given, found in zip((0.5, 1, 2), pauses, strict=True)
    )


def test_it_ends_with_the_error_itself(pauses: list[float]) -> None:
    failing = Failing(100, OSError("AWS Error NETWORK_CONNECTION"))
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        call(failing)
    assert failing.calls == 1 + len(retries.PAUSES_S)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("no such file"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EIO, "Input/output error"),
        OSError("AWS Error ACCESS_DENIED during HeadObject operation"),
    ],
    ids=str,
)
def test_what_lasts_is_not_tried_again(error: OSError, pauses: list[float]) -> None:
    assert not may_pass(error)
    failing = Failing(1, error)
    with pytest.raises(type(error)):
        call(failing)
    assert (failing.calls, pauses) == (1, [])


def test_only_storage_fails_so(pauses: list[float]) -> None:
    with pytest.raises(ValueError, match="no"):
        call(Failing(1, ValueError("no")))
    assert pauses == []
