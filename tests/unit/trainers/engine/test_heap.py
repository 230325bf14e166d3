"""A training on CPUs does not fault in anew what it has freed."""

import subprocess
import sys

import pytest

PROBE = """
import resource, sys
import torch
from trainers.engine.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_is_not_faulted_in_again() -> None:
    def faults(kind: str) -> int:
        command = [sys.executable, "-c", PROBE, kind]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("kept") < 100 < faults("plain")
