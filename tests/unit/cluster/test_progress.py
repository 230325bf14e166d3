import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import progress
from cluster.progress import Console, Relayed
from tests.fakes import Screen

ROOT = Path(__file__).parents[3]


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_without_a_terminal_there_is_a_line_an_interval(
    metrics_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    screen = Screen()
    console = Console(screen, "pretrain", metrics_file)
    for second in range(30):
        now = float(second)
        console.update(second, 100, "%", loss=second / 3, step=1000 + second)
    console.close()
    assert screen.err.getvalue().splitlines() == [
        "pretrain: 10/100 %  loss 3.333  step 1,010",
        "pretrain: 20/100 %  loss 6.667  step 1,020",
    ]


def test_a_line_is_shown_at_once(metrics_file: Path) -> None:
    screen = Screen()
    Console(screen, "shard", metrics_file).line("3 documents, dropped: none")
    assert screen.err.getvalue() == "shard: 3 documents, dropped: none\n"


def test_every_update_with_metrics_is_kept(metrics_file: Path) -> None:
    console = Console(Screen(), "tune", metrics_file)
    console.update(1, 6, "trials", accuracy=0.5, trial=3)
    console.update(2, 6, "trials")
    console.update(3, 6, "trials", accuracy=0.75, kind="好")
    kept = [json.loads(line) for line in metrics_file.read_text("utf-8").splitlines()]
    assert all(isinstance(record.pop("time"), float) for record in kept)
    assert kept == [
        {"stage": "tune", "trials": 1, "accuracy": 0.5, "trial": 3},
        {"stage": "tune", "trials": 3, "accuracy": 0.75, "kind": "好"},
    ]


def test_on_a_terminal_there_is_a_bar_and_lines_stand_by_themselves(metrics_file: Path) -> None:
    screen = Screen(is_terminal=True)
    console = Console(screen, "pretrain", metrics_file)
    console.update(25, 100, "%", loss=2.5)
    console.line("step 5: validation loss 2.4")
    console.update(50, 100, "%", loss=2.25)
    console.close()
    shown = screen.err.getvalue()
    assert "pretrain  25%|" in shown
    assert "pretrain  50%|" in shown
    assert "loss 2.25" in shown
    assert "\rpretrain: step 5: validation loss 2.4\n" in shown


class Relay:
    """Stands for the actor: its `put` is called at once."""

    def __init__(self) -> None:
        self.actor = progress._Relay()
        self.put = self

    def remote(self, event: Any) -> None:
        self.actor.put(event)


def test_what_a_worker_reports_reaches_the_driver_in_order() -> None:
    relay = Relay()
    worker = Relayed(relay)
    worker.line("ready")
    worker.update(1, 2, "steps", loss=0.5)
    assert relay.actor.drain() == [
        ("line", ("ready",), {}),
        ("update", (1, 2, "steps"), {"loss": 0.5}),
    ]
    assert relay.actor.drain() == [], "once"


def test_the_driver_knows_whether_anyone_looks_where_it_asks_to_end() -> None:
    actor = progress._Relay()
    assert not actor.end()
    actor = progress._Relay()
    assert not actor.is_to_end()
    assert actor.end()
    assert actor.is_to_end()


def test_what_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    """Also what is written to the descriptors from C++, and by children."""
    code = f"""
import os, pathlib, sys
from cluster.progress import Terminal
terminal = Terminal()
print("before")
terminal.divert(pathlib.Path({str(tmp_path / "log.txt")!r}))
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
