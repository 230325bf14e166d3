"""A Ray for one command, on one machine."""

import logging
import time

import psutil

from cluster.errors import InfrastructureError

SETTINGS = {
    # Ray gives up on its own processes after these times, which is too soon where other work keeps
    # all cores busy. Defaults: 30 s, 60 s.
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # the only node does not go before its driver
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # until a group's end, or a lost worker, is seen
}
"""Of Ray's core and Ray Train."""
START_TIMEOUT_S = 600.0


def start(cpus: int | None) -> None:
    """Raises InfrastructureError where Ray does not start, however often it is tried.

    Its node gives another of its processes 15 s to say at which port it listens, which no setting
    changes. Then Ray waits in vain for its node, and raises a plain Exception.
    """
    import ray

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        before = _children()
        try:
            # Without pages of its dashboard: twelve processes, and a gigabyte of memory.
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=True,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:
            if type(error) is not Exception:
                raise
            ray.shutdown()
            for process in _children() - before:
                process.kill()
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"Ray did not start on this machine within {START_TIMEOUT_S / 60:g} minutes; "
                    "end other work that keeps its cores busy, and run again"
                ) from error
            logging.getLogger(__name__).warning("Ray was too slow to start, is started again")


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())
