"""Kills at random moments while a corpus is made: of the driver, of Ray's processes, of tasks."""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.integration.command import until
from tests.integration.test_corpora_kills import made, written_recipe

KILLS = int(os.environ.get("KILLS", "20"))
LONGEST_S = 14.0
"""Of the wait before a kill; a run takes about that long when nothing is done yet."""


def test_any_kill_is_survived_with_the_same_bytes(start, raymill, tmp_path):
    drawn = random.Random(17)
    recipe, whole = written_recipe(tmp_path), tmp_path / "whole"
    outcome = raymill("shard", str(recipe), "--workspace", str(whole))
    assert outcome.status == 0, outcome.stderr
    kills, tries, finished = 0, 0, 0
    while kills < KILLS:
        workspace = tmp_path / f"try-{tries}"
        command = start("shard", str(recipe), "--workspace", str(workspace))
        deadline = time.monotonic() + drawn.uniform(2.0, LONGEST_S)
        while time.monotonic() < deadline and command.process.poll() is None:
            time.sleep(0.05)
        pids = command.processes()
        if command.process.poll() is None and pids:
            kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(drawn.choice([command.process.pid, *pids]), signal.SIGKILL)
            if drawn.random() < 0.5:  # the others too, as when the machine goes
                command.end()
        ended = command.wait()
        # 1 is Ray's: it ends the driver itself where a kill comes while that registers.
        assert ended.status in (0, 1, 3, -signal.SIGKILL), ended.stderr
        # Ray's agents look for a killed GCS for a minute after their raylet's end.
        until(lambda command=command: not command.processes())
        if list(workspace.glob("corpus/*")):  # a kill may come behind the last step
            assert made(workspace) == made(whole)
            tries, finished = tries + 1, finished + 1
        else:
            assert ended.status != 0, ended.stderr
    outcome = raymill("shard", str(recipe), "--workspace", str(tmp_path / f"try-{tries}"))
    assert outcome.status == 0, outcome.stderr
    assert made(tmp_path / f"try-{tries}") == made(whole)
    print(f"{kills} kills, {finished + 1} corpora")


pytestmark = pytest.mark.timeout(3600)
