"""A local Ray and an endpoint start while other work keeps all cores busy.

`STARTS=3 pytest tests/chaos/test_busy_machine.py` is a shorter form.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.command import ROOT, free_port

STARTS = int(os.environ.get("STARTS", "10"))
BUSY_PROCESSES = 4
TIMEOUT_S = 1500
"""Of one start: both Ray and Serve may take ten minutes."""

SERVES = """
import sys, time
from ray import serve
from cluster.ray.session import connected
from serving.rollout import deploy
from serving.config import Serve
from tests.fakes import Notes

@serve.deployment
class Endpoint:
    def __call__(self, request):
        return {"answer": 42}

port, notes, began = int(sys.argv[1]), Notes(), time.monotonic()
with connected(None, 2):
    print(f"Ray after {time.monotonic() - began:.0f} s")
    deploy.run(Endpoint.bind(), "endpoint", Serve(port=port), notes)
    print(f"Serve after {time.monotonic() - began:.0f} s", *notes.lines)
    print(deploy.post(f"http://127.0.0.1:{port}/", "{}"))
"""


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(BUSY_PROCESSES)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()


@pytest.mark.timeout(TIMEOUT_S * STARTS)
def test_a_local_ray_and_an_endpoint_start_on_busy_cores() -> None:
    with busy_cores():
        for _ in range(STARTS):
            done = subprocess.run(
                [sys.executable, "-c", SERVES, str(free_port())],
                cwd=ROOT,
                text=True,
                capture_output=True,
                timeout=TIMEOUT_S,
                start_new_session=True,  # as beside the work of others
            )
            print(done.stdout)
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[-1] == "{'answer': 42}"
