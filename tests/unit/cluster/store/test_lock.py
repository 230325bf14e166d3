import contextlib
import errno
import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store.lock import locked


def test_one_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with locked(lock, "busy"), pytest.raises(UserError, match="busy"), locked(lock, "busy"):
        pass
    with locked(lock, "busy"):
        pass


@pytest.mark.parametrize(
    ("number", "tolerated"),
    [(errno.ENOTSUP, True), (errno.ENOSYS, True), (errno.ENOLCK, True), (errno.EIO, False)],
)
def test_a_file_system_without_locks_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, tolerated: bool
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "as the file system says")

    monkeypatch.setattr(fcntl, "flock", flock)
    entered = False
    expected = contextlib.nullcontext() if tolerated else pytest.raises(OSError, match="as the")
    with expected, locked(tmp_path / ".lock", "busy"):
        entered = True
    assert entered == tolerated


def test_the_lock_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    told = r"/\.lock: cannot be locked, for another user made it; delete it, let all"
    with pytest.raises(UserError, match=told), locked(tmp_path / ".lock", "busy"):
        pass


def test_without_words_the_lock_is_waited_for(tmp_path: Path) -> None:
    lock, order = tmp_path / ".lock", []

    def second() -> None:
        with locked(lock):
            order.append("second")

    with locked(lock):
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
