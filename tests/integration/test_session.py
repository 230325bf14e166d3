"""What runs in a local Ray, and what is held there."""

import json
import os
import subprocess
import sys

from tests.integration.command import ROOT

HELD = """
import json, os, psutil, ray, signal, time
from cluster.ray.session import connected, held

@ray.remote(num_cpus=1)
class Actor: pass

def all_processes():
    return {one.pid for one in psutil.Process().children(recursive=True)}

heard = []
for one in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(one, lambda *arguments: heard.append(arguments))
with connected(None, 2):
    for pid in (os.getpid(), *all_processes()):  # as systemd does
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGTERM)
    assert len(heard) == 2
    before = held()
    kinds = ("detached", "non_detached")
    actors = [Actor.options(lifetime=kind).remote() for kind in kinds]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    processes = ray._private.worker._global_node.all_processes
    alive = [name for name, (one,) in processes.items() if one.process.poll() is None]
    rays = all_processes()
    print(json.dumps([before, held(), *sorted(alive)]), flush=True)

def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

deadline = time.monotonic() + 600
while any(map(runs, rays)):
    assert time.monotonic() < deadline
    time.sleep(0.1)
"""


def test_what_outlives_its_job_is_held():
    """No process of the local Ray ends with the terminal, nor by a signal to all; none is left."""
    command = [sys.executable, "-c", HELD]
    done = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, timeout=600, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    # Ray itself may print a line behind it.
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("[{")]
    before, after, *processes = json.loads(told)
    assert (before, after) == ({}, {"CPU": 1.0})
    assert processes == ["dashboard", "gcs_server", "log_monitor", "monitor", "raylet"]


ELSEWHERE = """
import json, os
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
os.environ |= json.loads(os.environ["OF_THE_JOB"])
import ray
from cluster.ray.session import connected

@ray.remote
def environment(): return dict(os.environ)

try:
    with connected(cluster.address, None):
        print(json.dumps(ray.get(environment.remote())))
finally:
    cluster.shutdown()
"""


def test_workers_of_a_cluster_started_elsewhere_get_the_same_environment():
    """A job's own settings among it, which the job has told Ray too."""
    own = {"MALLOC_ARENA_MAX": "3", "COLOUR": "blue"}
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": own}})}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=ROOT,
        env={**os.environ, "OF_THE_JOB": json.dumps(own | job)},
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["MALLOC_TRIM_THRESHOLD_"] == str(2**32)
    assert found["TOKENIZERS_PARALLELISM"] == "false"
    assert (found["MALLOC_ARENA_MAX"], found["COLOUR"]) == ("3", "blue")
