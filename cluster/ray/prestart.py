"""Processes of a local Ray that import what they will need while other things still start.

Ray starts a process when an actor or a task asks for one, which then takes seconds to import torch
and Transformers. Here a process starts earlier: an actor or a task that asks for the same runtime
environment gets it. Ray's core has a call for this, its Python interface has none.
"""

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from typing import Any

from cluster.ray.local import is_ours

KEEP_ALIVE_S = 60
"""How long Ray keeps a process that nobody asked for, at least."""
TIMEOUT_S = 5


def environment(function: str, **variables: str) -> dict[str, Any]:
    """The runtime environment of processes that call `module.function` before all else. Empty
    unless this process started the Ray that it uses: elsewhere, nothing is started ahead."""
    if not is_ours():
        return {}
    from ray._private import ray_constants

    return {"env_vars": {ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR: function, **variables}}


def threads(cpus: float) -> dict[str, str]:
    """For the `environment` of what computes: Ray says so itself, but only to a process that it has
    given its work, when torch has looked already."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, int(cpus))))}


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While the block imports, nobody looks for garbage, which there is little of; nor among all
    that later, when it would take 0.4 s each time for torch and what comes with it. An error comes
    again, where it is told, when what was not imported is used."""
    gc.disable()
    try:
        with contextlib.suppress(Exception):
            yield
    finally:
        gc.freeze()
        gc.enable()


def start(runtime_env: dict[str, Any], processes: int, by_actor: bool = False) -> None:
    """Starts as many processes with an `environment`, if that is not empty. `by_actor`: it is an
    actor with an environment of its own that will ask for them."""
    if not runtime_env:
        return
    # Environments are the same if their texts are: Ray's core writes those that it merges, its
    # Python the others.
    separators = (",", ":") if by_actor else (", ", ": ")
    _request(json.dumps(runtime_env, sort_keys=True, separators=separators), processes)


def _request(runtime_env: str, processes: int) -> None:
    import grpc
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc
    from ray.core.generated import runtime_environment_pb2 as runtime_environments

    messages: Any = node_manager_pb2
    environments: Any = runtime_environments
    languages: Any = common_pb2
    request = messages.PrestartWorkersRequest(
        language=languages.PYTHON,
        runtime_env_info=environments.RuntimeEnvInfo(serialized_runtime_env=runtime_env),
        keep_alive_duration_secs=KEEP_ALIVE_S,
        num_workers=processes,
    )
    node: Any = ray._private.worker._global_node
    address = f"{node.node_ip_address}:{node.node_manager_port}"
    # Without it everything only takes longer.
    with (
        contextlib.suppress(grpc.RpcError),
        init_grpc_channel(address, GLOBAL_GRPC_OPTIONS) as channel,
    ):
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        stub.PrestartWorkers(request, timeout=TIMEOUT_S)
