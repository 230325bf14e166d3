"""The signals that end a command, and the local Ray that the command needs to end well.

A signal rarely comes to one process alone. GNU timeout and a terminal send theirs to the process
group, systemd and Slurm to every process of the unit or job. Ray's processes would end at once,
and with them the training that is to leave a checkpoint. So they never hear SIGTERM and SIGHUP,
and the command that started them ends them when it needs them no more. (Ray itself sees to SIGINT.)

Should the command be killed, the kernel kills those that it started, and workers and agents end
because their raylet did.
"""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
INTERVAL_S = 0.2
T = TypeVar("T")


def call_in_thread(
    function: Callable[[], T], result: "Future[T]", is_over: threading.Event | None = None
) -> None:
    """Fills in the result by a thread, which stays until `is_over`, if that is given, is set."""

    def call() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001  raised by the result
            result.set_exception(error)
        if is_over is not None:
            is_over.wait()

    threading.Thread(target=call, daemon=True).start()


def waited_for(result: "Future[T]") -> T:
    """The result, or the error in its place. The main thread handles signals meanwhile, also those
    that come to another thread."""
    while not wait([result], INTERVAL_S).done:
        pass
    return result.result()


def call_beside(function: Callable[[], None], is_over: threading.Event) -> None:
    """Calls it in a thread, whose processes inherit that SIGTERM and SIGHUP are blocked.

    The main thread hears them meanwhile, however long that takes. The thread stays until `is_over`,
    since Ray's processes end with the thread that started them.
    """
    handlers = {one: signal.getsignal(one) for one in SIGNALS}

    def call() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        function()

    result: Future[None] = Future()
    try:
        call_in_thread(call, result, is_over)
        waited_for(result)
    finally:
        for one, handler in handlers.items():  # Ray's core has set one for SIGTERM that aborts
            signal.signal(one, handler)
