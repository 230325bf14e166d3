"""The signals that end a command, and the local Ray that the command needs to end well.

A signal rarely comes to one process alone. GNU timeout and a terminal send theirs to the process
group, systemd and Slurm to every process of the unit or job. Ray's processes would end at once,
and with them the training that is to leave a checkpoint. So they never hear SIGTERM and SIGHUP,
and the command that started them ends them when it needs them no more. (Ray itself sees to SIGINT.)

Should the command be killed, the kernel kills those that it started, and workers and agents end
because their raylet did.
"""

import concurrent.futures
import signal
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def call_beside(function: Callable[[], None], is_over: threading.Event) -> None:
    """Calls it in a thread, whose processes inherit that SIGTERM and SIGHUP are blocked.

    The main thread hears them meanwhile, however long that takes, and with the command's own
    handlers: Ray sets its own for SIGTERM, which exits at once, in a main thread only. The thread
    stays until `is_over`, since Ray's processes end with the thread that started them.
    """
    result: concurrent.futures.Future[None] = concurrent.futures.Future()

    def call() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            function()
        except BaseException as error:  # noqa: BLE001  raised by `result` below
            result.set_exception(error)
        else:
            result.set_result(None)
        is_over.wait()

    threading.Thread(target=call, name="starts-ray", daemon=True).start()
    result.result()
