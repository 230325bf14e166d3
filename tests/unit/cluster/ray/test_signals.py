"""Signals that must not reach a local Ray, and reach the command a little later."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.ray import signals

BLOCKED = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that the command's own handlers were called with."""
    found: list[int] = []
    handlers = {
        one: signal.signal(one, lambda number, frame: found.append(number))
        for one in signals.SIGNALS
    }
    yield found
    for one, handler in handlers.items():
        signal.signal(one, handler)


INTERRUPTED = """
import os, signal, sys, time
from cluster.ray import signals

heard = []
for one in signals.SIGNALS:
    signal.signal(one, lambda number, frame: heard.append(number))
try:
    with signals.unheard_by_children():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        os.kill(os.getpid(), int(sys.argv[1]))
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            print("swallowed")
        time.sleep(600)
except KeyboardInterrupt:
    print(*heard)
"""


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_what_takes_long_even_where_that_swallows_it(number: signal.Signals) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines() == ["swallowed", str(int(number))]


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_comes_to_the_commands_own_handler_after_the_block(
    heard: list[int], number: signal.Signals
) -> None:
    with signals.unheard_by_children():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        signal.raise_signal(number)
        assert heard == []
    assert heard == [number]


def test_processes_that_are_started_never_get_one() -> None:
    command = [sys.executable, "-c", BLOCKED]
    with signals.unheard_by_children():
        started = subprocess.run(command, capture_output=True, text=True, check=True)
    assert started.stdout.split() == [str(int(one)) for one in sorted(signals.SIGNALS)]
    others = subprocess.run(command, capture_output=True, text=True, check=True)
    assert others.stdout.split() == []
