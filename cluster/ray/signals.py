"""The signals that end a command, and the local Ray that the command needs to end well.

A signal rarely comes to one process alone. GNU timeout and a terminal send theirs to the process
group, systemd and Slurm to every process of the unit or job. Ray's processes would end at once,
and with them the training that is to leave a checkpoint. So they never hear SIGTERM and SIGHUP,
and the command that started them ends them when it needs them no more. (Ray itself sees to SIGINT.)

Should the command be killed, the kernel kills those that it started, and workers and agents end
because their raylet did.
"""

import contextlib
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """SIGTERM and SIGHUP reach this process after the block, by the handlers that it had before
    it; the processes that the block starts inherit that they are blocked, and never get them."""
    handlers = {one: signal.getsignal(one) for one in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        for one, handler in handlers.items():  # Ray sets one for SIGTERM that exits at once
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """A local Ray that the block starts is shut down after it, with all of its processes.

    Ray asks each of its processes to end by SIGTERM, and kills it a second later. That second is
    spared for all but the GCS, to which this process says goodbye. A raylet that is killed does not
    end its own children, such as a worker's compiler, nor its agents for a minute.
    """
    import psutil
    import ray

    others = set(psutil.Process().children())
    try:
        yield
    finally:
        started = [one for one in psutil.Process().children() if one not in others]
        for process in [one for one in started if "gcs_server" not in one.name()]:
            for one in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        ray.shutdown()
