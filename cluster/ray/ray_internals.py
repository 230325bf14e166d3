"""Everything private of Ray's core and of Ray Serve that raymill touches.

tests/integration/test_ray_internals.py tells when a new version of Ray has moved one of them. What
is private of Ray Train is in train_internals.py, since it takes a second longer to import.
"""

import dataclasses
from typing import Any

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray._private.state import actors, state

HEAD: str = HEAD_NODE_RESOURCE_NAME
"""A resource that Ray's head node has one of. Without it, what only waits for others could stand on
a node that goes."""


def growth_limits() -> dict[str, float]:
    """What an autoscaling cluster can grow to; empty where a cluster does not grow. Without it, a
    recipe would be refused whose nodes are started only when they are asked for."""
    return dict(state.get_max_resources_from_cluster_config() or {})


def detached_resources() -> list[tuple[str, dict[str, float]]]:
    """The node and the resources of every actor that outlives its job, such as an endpoint's. Ray's
    public way (`ray.util.state.list_actors`) asks the dashboard, which a local Ray does not have.
    Without it, a training would wait for ever for CPUs that an endpoint holds."""
    from ray.core.generated.gcs_pb2 import ActorTableData  # type: ignore[attr-defined]

    table = state._connect_and_get_accessor().get_actor_table(None, "ALIVE")
    return [
        (actor.address.node_id.hex(), dict(actor.required_resources))
        for actor in map(ActorTableData.FromString, table)
        if actor.is_detached
    ]


def is_actor_alive(actor_id: str) -> bool:
    """Whether the cluster still has this actor. Public: `list_actors`, as above."""
    try:
        actor = actors(actor_id)
    except ray.exceptions.RaySystemError:  # the head may be starting again
        return True
    return bool(actor) and actor["State"] != "DEAD"


def draining_nodes() -> set[str]:
    """The ids of nodes that are about to go, such as spot instances that are taken back. Without
    it, a training of one worker would lose what it learned since its last checkpoint. Raises
    RaySystemError while the head starts again."""
    return set(state.get_draining_nodes())


@dataclasses.dataclass(frozen=True)
class Serving:
    port: int
    routes: dict[str, str | None]
    """Of every application, by its name."""


def serving() -> Serving | None:
    """What Ray Serve serves on this cluster, if it runs. `serve.status()` has neither port nor
    routes. Without it, an endpoint could be deployed where nobody looks for it."""
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    applications = client.get_serve_details()["applications"]
    routes = {name: details["route_prefix"] for name, details in applications.items()}
    return Serving(client.http_config.port, routes)
