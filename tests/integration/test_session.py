"""What runs in a local Ray, and what is held there."""

import json
import subprocess
import sys

from tests.integration.command import ROOT

HELD = """
import json, ray
from cluster.session import connected, held

@ray.remote(num_cpus=1)
class Actor: pass

with connected(None, 2):
    before = held()
    kinds = ("detached", "non_detached")
    actors = [Actor.options(lifetime=kind).remote() for kind in kinds]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    processes = ray._private.worker._global_node.all_processes
    print(json.dumps([before, held(), *sorted(processes)]), flush=True)
"""


def test_what_outlives_its_job_is_held():
    """Without a dashboard: the local Ray starts no process that it does not need."""
    command = [sys.executable, "-c", HELD]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, after, *processes = json.loads(done.stdout.splitlines()[-1])
    assert (before, after) == ({}, {"CPU": 1.0})
    assert processes == ["gcs_server", "log_monitor", "raylet"]
