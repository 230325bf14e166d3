"""A Ray for one command, on one machine."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator

import psutil

from cluster.errors import InfrastructureError
from cluster.ray import signals

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


@contextlib.contextmanager
def running(cpus: int | None) -> Iterator[None]:
    """A local Ray while the block runs; none of its processes outlives it.

    Raises InfrastructureError where Ray does not start, however often it is tried.
    """
    others, is_ending, is_over = _children(), threading.Event(), threading.Event()
    try:
        signals.call_beside(lambda: _start(cpus, others, is_ending), is_over)
        yield
    finally:
        is_ending.set()
        _end(others)
        is_over.set()


def _start(cpus: int | None, others: set[psutil.Process], is_ending: threading.Event) -> None:
    """Its node gives another of its processes 15 s to say at which port it listens, which no
    setting changes. Then Ray waits in vain for its node, and raises a plain Exception."""
    import ray

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
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
        except Exception as error:  # a plain one, with which Ray says that it was too slow
            if type(error) is not Exception:
                raise
            if is_ending.is_set():  # by a signal: the main thread kills what was started
                return
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"Ray did not start on this machine within {START_TIMEOUT_S / 60:g} minutes; "
                    "end other work that keeps its cores busy, and run again"
                ) from error
            _end(others)
            logging.getLogger(__name__).warning("Ray was too slow to start, is started again")


def _end(others: set[psutil.Process]) -> None:
    """Ends every process below this one but `others`.

    Ray would ask each of its processes to end by SIGTERM, and kill it a second later. That second
    is spared for all but the GCS, to which this process says goodbye. A raylet that is killed does
    not end its own children, such as a worker's compiler, nor its agents for a minute.
    """
    import ray

    _kill(one for one in _children() - others if "gcs_server" not in one.name())
    ray.shutdown()
    _kill(_children() - others)  # a GCS whose start was interrupted is not known to Ray


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())
