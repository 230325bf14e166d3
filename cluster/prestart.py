"""Processes of a local Ray that import what they will need while other things still start.

Ray starts a process when an actor or a task asks for one, which then takes seconds to import torch
and Transformers. Here a process starts earlier: an actor or a task that asks for the same runtime
environment gets it. Ray's core has a call for this, its Python interface has none.
"""

import contextlib
import gc
import json
from collections.abc import Iterator
from typing import Any

KEEP_ALIVE_S = 60
"""How long a process waits for someone to ask for it."""
TIMEOUT_S = 5


def environment(function: str, **variables: str) -> dict[str, Any]:
    """The runtime environment of processes that call `module.function` before all else. Empty
    unless this process started the Ray that it uses: elsewhere, nothing is started ahead."""
    import ray
    from ray._private import ray_constants

    node = ray._private.worker._global_node
    if node is None or not node.is_head():
        return {}
    return {"env_vars": {ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR: function, **variables}}


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While the block imports, nobody looks for garbage, which there is little of; nor among all
    that later, when it would take 0.4 s each time for torch and what comes with it."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def start(runtime_env: dict[str, Any], processes: int, by_actor: bool = False) -> None:
    """Starts as many processes with an `environment`, if that is not empty. They end where nothing
    asks for them. `by_actor`: it is an actor with an environment of its own that will ask."""
    import grpc
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import (
        common_pb2,
        node_manager_pb2,
        node_manager_pb2_grpc,
        runtime_environment_pb2,
    )

    if not runtime_env:
        return
    # Environments are the same if their texts are: Ray's core writes those that it merges, its
    # Python the others.
    separators = (",", ":") if by_actor else (", ", ": ")
    text = json.dumps(runtime_env, sort_keys=True, separators=separators)
    messages: Any = runtime_environment_pb2
    info = messages.RuntimeEnvInfo(serialized_runtime_env=text)
    messages = node_manager_pb2
    request = messages.PrestartWorkersRequest(
        language=common_pb2.PYTHON,  # type: ignore[attr-defined]
        runtime_env_info=info,
        keep_alive_duration_secs=KEEP_ALIVE_S,
        num_workers=processes,
    )
    node: Any = ray._private.worker._global_node
    address = f"{node.node_ip_address}:{node.node_manager_port}"
    # Without it everything only takes longer.
    with contextlib.suppress(grpc.RpcError), init_grpc_channel(address) as channel:
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        stub.PrestartWorkers(request, timeout=TIMEOUT_S)
