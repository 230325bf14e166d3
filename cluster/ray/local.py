"""A Ray for one command, on one machine, without what only a cluster needs."""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator
from typing import Any

from cluster.ray.replacing import replaced

SETTINGS = {
    # A node looks for its object store, which may not have begun to listen: once a second by
    # default, ten times. A start on two busy cores often spent that second.
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
    # Processes for nobody: those that are asked for have environments of their own (prestart.py).
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # the only node does not go before its driver
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # until a group's end, or a lost worker, is seen
}
"""Of Ray's core and Ray Train."""
NODE_TIMEOUT_S, NODE_INTERVAL_S = 5, 0.02


def is_ours() -> bool:
    """Whether this process started the Ray that it uses."""
    import ray

    node = ray._private.worker._global_node
    return node is not None and node.is_head()


def start(cpus: int | None) -> None:
    import ray

    with _without_monitor_and_dashboard(), _agent_at_any_port(), _met_at_once():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
        )


@contextlib.contextmanager
def _without_monitor_and_dashboard() -> Iterator[None]:
    """Has Ray start neither its autoscaler, on a machine that cannot grow, nor its dashboard, which
    without pages only reports usage. Each is a process for which Ray waits, at its end too: with
    both, a Ray that runs one task takes 7.7 s, without 4.2 s."""
    from ray._private.node import Node

    with (
        replaced(Node, "start_monitor", lambda self: None),
        replaced(Node, "start_api_server", lambda self, **_: None),
    ):
        yield


@contextlib.contextmanager
def _agent_at_any_port() -> Iterator[None]:
    """Has the node's agent listen where there is room. Ray's default is one port, for which a
    second Ray on the machine tries six times, some 3 s, and then goes on without."""
    from ray._private import parameter

    anywhere = functools.partial(parameter.RayParams, dashboard_agent_listen_port=0)
    with replaced(parameter, "RayParams", anywhere):
        yield


@contextlib.contextmanager
def _met_at_once() -> Iterator[None]:
    """Has Ray go on as soon as its node is there; itself it looks once a second."""
    import ray
    from ray._private import services

    look = services.get_node

    def met(gcs_address: str, node_id: str) -> Any:
        state = ray._private.state.GlobalState()
        state._initialize_global_state(services._get_gcs_client_options(gcs_address))
        deadline = time.monotonic() + NODE_TIMEOUT_S
        while time.monotonic() < deadline:
            if any(node["NodeID"] == node_id for node in state.node_table()):
                break
            time.sleep(NODE_INTERVAL_S)
        return look(gcs_address, node_id)

    with replaced(services, "get_node", met):
        yield
