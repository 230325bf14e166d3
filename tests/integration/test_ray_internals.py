"""What is private of Ray is where this version of it has it."""

import os
from pathlib import Path
from unittest import mock

import pytest
import ray

from cluster.ray import local, ray_internals, session
from serving.rollout import ingress


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


def test_what_is_set_is_known_to_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes no notice of a name that it does not have."""
    monkeypatch.setattr(ingress, "find_spec", lambda _: True)  # as where there is a HAProxy
    with mock.patch.dict(os.environ):
        names = {*local.SETTINGS, *session.set_environment(), *ingress.environment(tmp_path)}
    names = {name for name in names if name.startswith(("RAY_", "TUNE_"))}
    folder = Path(ray.__file__).parent
    core = (folder / "core/src/ray/raylet/raylet").read_bytes()
    of_core = {name for name in names if name[4].islower()}
    assert of_core
    assert {name for name in of_core if name.removeprefix("RAY_").encode() not in core} == set()
    unknown = names - of_core
    assert unknown
    for file in folder.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        unknown = {name for name in unknown if f'"{name}"' not in source}
    assert unknown == set()
