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
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
INTERVAL_S = 0.5
"""How often a pending signal is looked for."""


@contextlib.contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that the block starts inherit that SIGTERM and SIGHUP are blocked.

    One that comes to this process meanwhile ends the block by KeyboardInterrupt, and then has the
    handler called that was there before the block. Only for the main thread, as all handlers.
    """
    handlers = {one: signal.getsignal(one) for one in (*SIGNALS, signal.SIGALRM)}
    is_over = threading.Event()
    arguments = (threading.get_ident(), is_over)
    watch = threading.Thread(target=_watch, args=arguments, name="signals", daemon=True)
    signal.signal(signal.SIGALRM, _interrupt)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        watch.start()
        yield
    finally:
        is_over.set()
        watch.join()
        for one, handler in handlers.items():  # Ray sets one for SIGTERM that exits at once
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _watch(thread: int, is_over: threading.Event) -> None:
    """Interrupts a thread, and again where what it calls has swallowed the exception."""
    while not is_over.wait(INTERVAL_S):
        if signal.sigpending() & {*SIGNALS}:
            signal.pthread_kill(thread, signal.SIGALRM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
