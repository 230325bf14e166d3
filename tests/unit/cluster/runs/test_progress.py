import fcntl
import functools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.runs import progress
from cluster.runs.progress import Console, Relayed
from tests.fakes import Screen

ROOT = Path(__file__).parents[4]


def test_without_a_terminal_there_is_a_line_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    screen = Screen()
    console = Console(screen, "pretrain")
    for second in range(30):
        now = float(second)
        console.update(second, 100, "%", loss=second / 3, tokens_per_second=1000 + second)
    console.close()
    assert screen.err.getvalue().splitlines() == [
        "pretrain: 10 %  01:30 left  loss 3.333  tokens/s 1,010",
        "pretrain: 20 %  01:20 left  loss 6.667  tokens/s 1,020",
    ]


def test_the_time_left_is_counted_anew_where_the_same_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a model answers rows, and its base after it."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    screen = Screen()
    console = Console(screen, "evaluate")
    for second, done in ((0, 0), (50, 50), (100, 100), (100, 0), (120, 20)):
        now = float(second)
        console.update(done, 100, "%")
    assert screen.err.getvalue().splitlines() == [
        "evaluate: 50 %  00:50 left",
        "evaluate: 100 %  00:00 left",
        "evaluate: 20 %  01:20 left",
    ]


def test_without_a_terminal_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    console = Console(screen, "shard")
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    console.update(3, 20, "parts cleaned")
    console.update(1000, 2000, "shards packed")
    assert screen.err.getvalue().splitlines() == [
        "shard: 3 of 20 parts cleaned",
        "shard: 1,000 of 2,000 shards packed",
    ]


def test_a_line_is_shown_at_once() -> None:
    screen = Screen()
    Console(screen, "shard").line("3 documents, dropped: none")
    assert screen.err.getvalue() == "shard: 3 documents, dropped: none\n"


def test_a_bar_is_drawn_on_a_terminal_and_lines_stand_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "tqdm", functools.partial(progress.tqdm, mininterval=0))
    screen = Screen(is_terminal=True)
    console = Console(screen, "pretrain")
    console.update(25, 100, "%", loss=2.5)
    console.line("step 5: validation loss 2.4")
    console.update(50, 100, "%", loss=2.25)
    console.close()
    shown = screen.err.getvalue()
    assert "pretrain  25%|" in shown
    assert "pretrain  50%|" in shown
    assert ", loss 2.25" in shown
    assert "\rpretrain: step 5: validation loss 2.4\n" in shown


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    screen = Screen(is_terminal=True)
    Console(screen, "shard").update(3, 20, "parts cleaned")
    assert screen.err.getvalue() == "shard: 3 of 20 parts cleaned\n"


def test_a_bar_is_not_drawn_for_every_item() -> None:
    screen = Screen(is_terminal=True)
    console = Console(screen, "shard")
    for number in range(1, 1001):
        console.update(number, 1000, "parts cleaned")
    assert screen.err.getvalue().count("parts cleaned") < 500
    assert "1,000 of 1,000 parts cleaned" in screen.err.getvalue(), "the last always is"


DRAWS = """
import time
from cluster.runs.progress import Console, Terminal
terminal = Terminal()
console = Console(terminal, "shard")
for unit in ("parts cleaned", "parts searched for groups of near duplicates, round 1"):
    for number in range(1, 4):
        console.update(number, 3, unit, tokens_per_second=123456, validation_loss=1.5)
        time.sleep(0.11)
    console.line("a line")
console.close()
terminal.err.write("the end")
"""


@pytest.mark.parametrize("columns", [80, 60, 30])
def test_bars_leave_nothing_behind_on_a_real_terminal(columns: int) -> None:
    """None is wider than the terminal, which would wrap it and keep its first lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    code = [sys.executable, "-c", DRAWS]
    environment = {**os.environ, "TERM": "xterm"}
    subprocess.run(code, cwd=ROOT, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    drawn = re.split(r"[\r\n]+", shown)
    assert max(map(len, drawn)) <= columns
    assert sum("%|" in line for line in drawn) >= 6
    kept = [line.rpartition("\r")[2] for line in shown.split("\r\n")]
    assert kept == ["shard: a line", "shard: a line", "the end"]


def test_a_user_who_has_left_ends_nothing() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    code = "from cluster.runs.progress import *; Console(Terminal(), 'shard').line('a line')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True)
    os.close(theirs)


class Relay:
    """Stands for the actor: its `put` is called at once."""

    def __init__(self) -> None:
        self.actor = progress._Relay()
        self.put = self

    def remote(self, event: Any) -> Any:
        self.actor.put(event)
        return event


def test_what_a_worker_reports_reaches_the_driver_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[Any] = []
    monkeypatch.setattr(ray, "wait", lambda calls, timeout: awaited.extend(calls))
    relay = Relay()
    worker = Relayed(relay)
    worker.line("ready")
    worker.update(1, 2, "steps", loss=0.5)
    assert awaited == [("line", ("ready",), {})], "a line has arrived when its call ends"
    assert relay.actor.drain() == [
        ("line", ("ready",), {}),
        ("update", (1, 2, "steps"), {"loss": 0.5}),
    ]
    assert relay.actor.drain() == [], "once"


def test_what_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    """Also what is written to the descriptors from C++, and by children."""
    code = f"""
import os, pathlib, sys
from cluster.runs.progress import Terminal
terminal = Terminal()
print("before")
terminal.divert("20260101-demo", pathlib.Path({str(tmp_path / "log.txt")!r}))
print("chatter")
os.write(2, b"from C++\\n")
os.system("echo child")
terminal.err.write("progress\\n")
terminal.out.write("answer\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("before\nanswer\n", "progress\n")
    log = (tmp_path / "log.txt").read_text()
    assert sorted(log.splitlines()) == ["chatter", "child", "from C++"]


def test_without_a_run_what_libraries_print_can_be_hushed() -> None:
    code = """
import os
from cluster.runs.progress import Terminal
terminal = Terminal()
with terminal.hushed():
    print("chatter")
    os.write(2, b"from C++")
    terminal.err.write("progress\\n")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("after\n", "progress\n")
