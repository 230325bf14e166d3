"""Two Rays on one machine do not meet."""

import json
import subprocess
import sys

from tests.integration.command import ROOT

CODE = """
import json, ray
from cluster.session import connected

def named():
    from ray._private.services import canonicalize_bootstrap_address_or_die
    return canonicalize_bootstrap_address_or_die(None)

with connected(None, 1):
    own = ray.get_runtime_context().gcs_address
    print(flush=True)  # it is there
    input()            # and the other one too
    print(json.dumps([own, ray.get(ray.remote(named).remote())]), flush=True)
"""


def test_the_processes_of_a_local_ray_know_which_ray_is_theirs():
    """Ray's state API, which Ray Train asks, takes the newest one on the machine by default."""
    rays = [
        subprocess.Popen(
            [sys.executable, "-c", CODE], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in rays:
            assert process.stdout.readline() == "\n"
        found = [json.loads(process.communicate("\n", timeout=60)[0]) for process in rays]
    finally:
        for process in rays:
            process.kill()
            process.wait()
    assert found[0][0] != found[1][0]
    assert all(own == named for own, named in found)


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
