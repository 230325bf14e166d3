"""Signals that must not reach a local Ray, and reach the command at once."""

import signal
import subprocess
import sys
import threading

import pytest

from cluster.ray import signals

BLOCKED = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
INTERRUPTED = """
import os, signal, sys, threading, time
from cluster.ray import signals

def interrupt(number, frame):
    raise KeyboardInterrupt(number)

def takes_long():
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(600)

for one in signals.SIGNALS:
    signal.signal(one, interrupt)
try:
    signals.call_beside(takes_long, threading.Event())
except KeyboardInterrupt as error:
    print(*error.args)
"""


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_the_wait_for_what_takes_long(number: signal.Signals) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == [str(int(number))]


def test_processes_that_are_started_never_get_one() -> None:
    command, found, is_over = [sys.executable, "-c", BLOCKED], list[str](), threading.Event()

    def start() -> None:
        found.extend(subprocess.check_output(command, text=True).split())

    signals.call_beside(start, is_over)
    is_over.set()
    assert found == [str(int(one)) for one in sorted(signals.SIGNALS)]
    assert subprocess.check_output(command, text=True).split() == []


def test_a_process_lives_until_what_needs_it_is_over() -> None:
    """As Ray's, it ends with the thread that started it."""
    threads, is_over = list[threading.Thread](), threading.Event()
    signals.call_beside(lambda: threads.append(threading.current_thread()), is_over)
    assert threads[0].is_alive()
    is_over.set()
    threads[0].join(300)
    assert not threads[0].is_alive()


def test_an_error_is_raised_where_it_was_called() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        signals.call_beside(fail, threading.Event())
