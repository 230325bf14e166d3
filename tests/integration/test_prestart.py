"""What asks for the environment of a process that was started ahead gets that process."""

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import psutil
import ray
import ray.data

from cluster.ray import prestart, session
from tests.integration.command import until

OWN = {"env_vars": {"OWN": "1"}}


def started(name: str) -> int:
    """The process whose environment has this name."""

    def found() -> int | None:
        for process in psutil.Process().children(recursive=True):
            try:
                if name in process.environ():
                    return process.pid
            except psutil.Error:  # it ended meanwhile
                continue
        return None

    return until(found)


def pid_of_task(env: dict[str, Any]) -> int:
    @ray.remote(num_cpus=0, runtime_env=env)
    def task() -> int:
        return os.getpid()

    return ray.get(task.remote())


def pid_of_ray_datas_task(env: dict[str, Any]) -> int:
    rows = ray.data.range(1).map(lambda row: {"pid": os.getpid()}, runtime_env=env)
    return rows.take_all()[0]["pid"]


def pid_of_an_actors_actor(env: dict[str, Any]) -> int:
    @ray.remote(num_cpus=0)
    class Actor:
        def own(self) -> int:
            return os.getpid()

        def child(self) -> int:
            return ray.get(Actor.options(runtime_env=env).remote().own.remote())

    return ray.get(Actor.options(runtime_env=OWN).remote().child.remote())


def test_what_asks_for_its_environment_gets_the_process(monkeypatch: Any) -> None:
    monkeypatch.setenv("SPT_NOENV", "1")  # or process titles stand over the environment
    asked: dict[str, Callable[[dict[str, Any]], int]] = {
        "TASK": pid_of_task,
        "DATA": pid_of_ray_datas_task,
        "ACTOR": pid_of_an_actors_actor,
    }
    with mock.patch.dict(os.environ), session.connected(None, 1):
        for name, pid in asked.items():
            env = prestart.environment("gc.freeze", **{name: "1"})
            by_actor = name == "ACTOR"
            merged = {"env_vars": {**OWN["env_vars"], **env["env_vars"]}} if by_actor else env
            prestart.start(merged, 1, by_actor)
            assert started(name) == pid(env), name


def test_nothing_is_started_ahead_on_a_ray_of_others() -> None:
    assert prestart.environment("gc.freeze") == {}
    prestart.start({}, 1)
