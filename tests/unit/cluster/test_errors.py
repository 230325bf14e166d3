import errno
import pickle
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import (
    Diverged,
    GateRefused,
    InfrastructureError,
    RaymillError,
    RecipeError,
    UserError,
    disk_failure,
)

STATUSES = {
    RaymillError: 3,
    UserError: 2,
    RecipeError: 2,
    Diverged: 2,
    InfrastructureError: 3,
    GateRefused: 4,
}


@pytest.mark.parametrize("kind", STATUSES)
def test_the_class_decides_the_exit_status(kind: type[RaymillError]) -> None:
    assert kind("x").exit_status == STATUSES[kind]


@pytest.mark.parametrize("kind", STATUSES)
def test_errors_come_whole_from_other_processes(kind: type[RaymillError]) -> None:
    error = pickle.loads(pickle.dumps(kind("news.txt:3: mend it")))
    assert type(error) is kind
    assert str(error) == "news.txt:3: mend it"


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded")],
)
def test_a_full_disk_is_told_with_the_place_and_the_remedy(number: int, reason: str) -> None:
    told = disk_failure(OSError(number, "Error writing bytes to file"), "/mill")
    assert str(told) == f"/mill: {reason}; free space there and run again"


def test_real_writes_to_a_full_device_are_known() -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError) as of_python:  # noqa: PT011
        device.write_bytes(b"x" * 100)
    with pytest.raises(OSError) as of_numpy, device.open("wb") as stream:  # noqa: PT011
        np.save(stream, np.zeros(100_000))
    for caught in (of_python, of_numpy):
        assert disk_failure(caught.value, "/mill") is not None


def test_other_failures_are_not_the_disks() -> None:
    assert disk_failure(FileNotFoundError(errno.ENOENT, "gone"), "/mill") is None


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.EROFS, "Read-only file system", "mend the disk"),
        (errno.EIO, "Input/output error", "mend the disk"),
        (errno.ENOSPC, "No space left on device", "free space there"),
    ],
)
def test_a_disk_that_gave_out_is_told(number: int, reason: str, remedy: str) -> None:
    told = disk_failure(OSError(number, "Error writing bytes to file"), "/mill")
    assert str(told) == f"/mill: {reason}; {remedy} and run again"


def test_a_file_that_is_known_is_named() -> None:
    error = OSError(errno.EIO, "Input/output error", "/data/news.txt")
    assert str(disk_failure(error, "/mill")).startswith("/data/news.txt: Input/output error; mend")
