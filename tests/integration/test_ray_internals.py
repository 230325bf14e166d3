"""What is private of Ray is where this version of it has it."""

import os
from pathlib import Path
from unittest import mock

import ray

from cluster.ray import local, ray_internals, session


@ray.remote(num_cpus=0)
class Actor:
    def own_id(self) -> str:
        return ray.get_runtime_context().get_actor_id()


def test_a_local_ray_tells_what_it_is_asked() -> None:
    with mock.patch.dict(os.environ), session.connected(None, 1):
        assert ray_internals.growth_limits() == {}, "it does not grow"
        assert ray.cluster_resources()[ray_internals.HEAD] == 1.0
        assert ray_internals.draining_nodes() == set()
        assert ray_internals.serving() is None
        assert ray_internals.detached_resources() == []
        actor = Actor.remote()
        actor_id = ray.get(actor.own_id.remote())
        assert ray_internals.is_actor_alive(actor_id)
        ray.kill(actor)
        assert not ray_internals.is_actor_alive(actor_id)


def test_what_is_set_is_known_to_ray() -> None:
    """It takes no notice of a name that it does not have."""
    folder = Path(ray.__file__).parent
    core = (folder / "core/src/ray/raylet/raylet").read_bytes()
    of_core = [name for name in local.SETTINGS if name[4].islower()]
    assert of_core
    assert all(name.removeprefix("RAY_").encode() in core for name in of_core)
    serve = (folder / "serve/_private/constants.py").read_text()
    assert all(f'"{name}"' in serve for name in session.OF_SERVE)
