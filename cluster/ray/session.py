"""Connect to Ray: to the cluster that is named, or to a local one made for this call.

    with connected(address=None, cpus=2) as available:
        ...

Inside a Ray job the job's own cluster is used. Only a Ray that was started here is stopped here.
"""

import collections
import contextlib
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from cluster.ray import local, signals
from cluster.ray.resources import largest, less, summed

CONNECT_TIMEOUT_S = 5
# Serve gives up on a proxy after three times 5 s, which is too soon where all cores are busy.
OF_SERVE = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "180",
}
SHORT = "/tmp"
"""Where HAProxy's socket is, wherever other temporary files are: Serve adds 80 characters to this,
of the 97 that HAProxy takes."""
TOKEN_HINT = (
    "; if it asks for a token, export RAY_AUTH_MODE=token to have it sent, from RAY_AUTH_TOKEN, "
    "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
)

# What raymill runs must be importable on every worker, also when it was started as `python -m`.
ROOT = str(Path(__file__).parents[2])


def is_local(address: str | None) -> bool:
    """Whether `connected` starts a Ray of its own."""
    return not (address or os.environ.get("RAY_ADDRESS"))


@contextlib.contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[dict[str, float]]:
    """Yields the resources that the cluster has or can grow to, such as {"CPU": 2.0, "GPU": 0.0}.

    Raises UserError where no Ray answers at `address`.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _refuse_unless_answered(address)
    variables = set_environment()
    import ray

    with contextlib.ExitStack() as stack:
        if address:
            is_over = threading.Event()
            stack.callback(is_over.set)
            stack.callback(ray.shutdown)
            signals.call_beside(lambda: _join(address, variables), is_over)
        else:
            made = tempfile.TemporaryDirectory(prefix="raymill-", dir=SHORT)
            ingress = Path(stack.enter_context(made))
            further = lazy_import("serving.rollout.ingress:environment")(ingress)
            _set_defaults(local.SETTINGS | further)
            stack.enter_context(local.running(cpus))
        yield _resources()


def _join(address: str, variables: Mapping[str, str]) -> None:
    """`variables` are for the processes that the cluster starts for this driver."""
    import ray

    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": dict(variables)},
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        hint = "" if "RAY_AUTH_MODE" in os.environ else TOKEN_HINT
        raise UserError(f"--address {address}: no Ray answers there: {reason}{hint}") from error


def _resources() -> dict[str, float]:
    import ray

    from cluster.ray.ray_internals import growth_limits

    # A cluster that autoscales may have no worker yet: what it can grow to counts.
    return largest({"GPU": 0.0}, ray.cluster_resources(), growth_limits())


def held() -> dict[str, float]:
    """What of the cluster belongs to actors that outlive their jobs, as those of an endpoint do: it
    comes free when someone takes them down."""
    from cluster.ray.ray_internals import detached_resources

    return summed(of_actor for _, of_actor in detached_resources())


def nodes() -> list[dict[str, float]]:
    """What each node has beside what is held there, such as {"CPU": 2.0}."""
    import ray

    from cluster.ray.ray_internals import detached_resources

    held_there = collections.defaultdict(list)
    for node, of_actor in detached_resources():
        held_there[node].append(of_actor)
    return [
        less(node["Resources"], summed(held_there[node["NodeID"]]))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _refuse_unless_answered(address: str) -> None:
    """Ray itself tries for minutes to reach an address where nothing listens."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not (separator and port.isdigit()):
        return  # `auto` and its like name no place
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray answers there: {error}") from error


def set_environment() -> dict[str, str]:
    """Sets what every process of a training, search or endpoint has, where the user has not set
    it; processes started here inherit it. Returns what those on other nodes must be given, and
    have then, whatever stands in the node's own environment."""
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # what a job has set is among what is returned
        # What holds no GPU sees none, also on a node that has some.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "RAY_DEDUP_LOGS": "0",  # the log is read with tools, not watched
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a recipe mean the user's folder
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        # A node may be dead, and not known to be; then its room is waited for.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
        **OF_SERVE,
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait for each other spin for some 10 microseconds, and then sleep. By default
        # it is 3 milliseconds, in which they take the cores from other work, and from the thread
        # that all wait for: a step takes twice as long. To sleep at once costs a tenth where
        # nothing else runs.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "1000",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        # Every step allocates and frees the same tensors. glibc would give their pages back to the
        # kernel each time, and take them again: a fifth of the time of a step on a CPU. But what
        # is as large as ZeRO's buckets, of which a part is filled, must not become a gap in the
        # heap, over which all else spreads: up to a fifth of the memory of a worker.
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "MALLOC_MMAP_THRESHOLD_": str(2**27),
        "MALLOC_ARENA_MAX": "1",
    }
    _set_defaults(defaults)
    # A virtual environment that was not activated: ninja and its like stand beside python.
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    if ROOT not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        inherited = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, inherited] if inherited else [ROOT])
    return {name: os.environ[name] for name in defaults}


def _set_defaults(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
