"""Ctrl-C and the like leave no half artifact and no process; killed processes cost no sample."""

import contextlib
import json
import os
import pty
import re
import signal
import time

import pytest

from cluster.runs.ledger import account
from tests.growing import whole_lines
from tests.integration.command import until

KINDS = ("corpus", "examples", "model", "sweep", "evaluation", "promotion")
SLOW = ("--set", "pretrain.epochs=100", "--set", "pretrain.checkpoint_minutes=100")
LONG = ("--set", "pretrain.epochs=6", "--set", "pretrain.checkpoint_minutes=0.02")


@pytest.fixture
def sharded(copied, tmp_path):
    """A workspace that holds the tiny recipe's corpus already."""
    copied("examples", "shard")
    return tmp_path


def checkpoints(workspace):
    return list(workspace.glob("work/*/step-*/record.json"))


def assert_nothing_half_made_is_left(command, workspace):
    outcome = command.wait()
    assert outcome.status == 130, outcome.stderr
    record = json.loads((workspace / "runs" / outcome.answer["run"] / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert command.strays() == []
    assert not list(workspace.glob(".staging/*"))
    whole = [path.parent for path in workspace.glob("[a-z]*/*/manifest.json")]
    made = [path for path in workspace.glob("[a-z]*/*") if path.parent.name in KINDS]
    assert sorted(made) == sorted(whole)
    return outcome


def test_ctrl_c_while_sharding(start, recipe, tmp_path):
    command = start("run", str(recipe), "--workspace", str(tmp_path), "--no-hold")
    command.until(lambda: list(tmp_path.glob("work/tiny-shard-*")))
    command.interrupt()
    assert_nothing_half_made_is_left(command, tmp_path)


def test_a_killed_worker_a_closed_terminal_and_a_killed_driver_cost_no_sample(
    start, recipe, sharded, monkeypatch
):
    """Nor does another number of workers. What comes next goes on from the last checkpoint; what
    ends with its terminal leaves one more. Prometheus can follow."""
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    arguments = ("pretrain", str(recipe), "--workspace", str(sharded), *LONG)
    ours, theirs = pty.openpty()
    command = start(*arguments, terminal=theirs)
    os.close(theirs)
    command.until(lambda: command.training_workers() and checkpoints(sharded))
    os.kill(command.training_workers()[0], signal.SIGKILL)
    (ledger,) = sharded.glob("work/*/ledger.jsonl")
    command.until(lambda: whats(ledger).count("start") == 2)
    assert {"startup", "restart"} <= set(account(whole_lines(ledger)).parts)
    (loss,) = command.until(
        lambda: re.findall(r"^ray_raymill_loss\{.*", command.ray_metrics(), flags=re.MULTILINE)
    )
    assert 'recipe="tiny"' in loss
    assert 'stage="pretrain"' in loss
    assert 0 < float(loss.split()[-1]) < 20
    os.close(ours)
    outcome = assert_nothing_half_made_is_left(command, sharded)
    assert "a worker was lost" in outcome.stderr
    step = re.search(r"left a checkpoint after step ([\d,]+)", outcome.stderr)
    assert step is not None, outcome.stderr
    newest = max(path.parent.name for path in checkpoints(sharded))
    assert newest == f"step-{int(step[1].replace(',', '')):08d}"

    alone = (*arguments, "--set", "pretrain.workers=1")
    command = start(*alone)
    command.until(lambda: whats(ledger).count("start") == 3)
    os.kill(command.process.pid, signal.SIGKILL)
    until(lambda: not command.processes())
    newest = max(path.parent.name for path in checkpoints(sharded))

    outcome = start(*alone).wait()
    assert outcome.status == 0, outcome.stderr
    assert re.findall(r"resumes from checkpoint (step-\d+)", outcome.stderr) == [newest]
    stage = next(s for s in outcome.answer["stages"] if s["stage"] == "pretrain")
    assert stage["metrics"]["samples"] == stage["metrics"]["steps"] * 16
    assert_the_journal_is_of_all_attempts(sharded / stage["artifact"], stage["metrics"])


def end_as_timeout_does(command, terminal):
    command.process.terminate()
    os.killpg(command.process.pid, signal.SIGTERM)


def end_as_systemd_does(command, terminal):
    for pid in command.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def press_ctrl_c(command, terminal):
    """Which whatever runs it hands on, so that it comes twice."""
    os.write(terminal, b"\x03")
    os.killpg(command.process.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "workers"),
    [(end_as_timeout_does, 1), (end_as_systemd_does, 2), (press_ctrl_c, 1)],
)
def test_every_way_of_ending_leaves_a_checkpoint(start, recipe, sharded, end, workers):
    """Whoever gets the signal too: the process group, as of GNU timeout, which sends it twice; all
    processes, as of systemd and Slurm; what runs in the foreground of a terminal."""
    ours, theirs = pty.openpty()
    settings = (*SLOW, "--set", f"pretrain.workers={workers}")
    arguments = ("pretrain", str(recipe), "--workspace", str(sharded), *settings)
    command = start(*arguments, terminal=theirs)
    os.close(theirs)
    command.until(lambda: any(map(whole_lines, sharded.glob("work/*/metrics.jsonl"))))
    assert not checkpoints(sharded)
    end(command, ours)
    outcome = assert_nothing_half_made_is_left(command, sharded)
    step = re.search(r"left a checkpoint after step ([\d,]+)", outcome.stderr)
    assert step is not None, outcome.stderr
    (checkpoint,) = checkpoints(sharded)
    assert checkpoint.parent.name == f"step-{int(step[1].replace(',', '')):08d}"


def test_sigterm_while_ray_is_slow_to_start(start, recipe, tmp_path):
    """It may be tried again for minutes."""
    command = start("shard", str(recipe), "--workspace", str(tmp_path))
    (slow,) = command.until(lambda: command.named("raylet"))
    os.kill(slow, signal.SIGSTOP)
    time.sleep(3)  # some way into the wait for it
    command.process.terminate()
    assert_nothing_half_made_is_left(command, tmp_path)


def assert_the_journal_is_of_all_attempts(model, metrics):
    last = assert_each_step_took_its_batch_once(model / "metrics.jsonl")
    assert last["step"] == metrics["steps"]
    assert last["validation"]["loss"] == metrics["loss"]
    found = whats(model / "ledger.jsonl")
    assert found.count("command") == 3
    entries = whole_lines(model / "ledger.jsonl")
    groups = [entry["workers"] for entry in entries if entry["what"] == "start"]
    assert groups == [2, 2, 1, 1]
    parts = metrics["wall_seconds"]
    assert sum(parts.values()) == pytest.approx(entries[-1]["at"] - entries[0]["at"], abs=0.1)
    assert {"compute", "checkpoint", "startup", "idle"} <= set(parts)
    assert 0 < metrics["goodput"] < 1
    assert list((model.parents[1] / "tensorboard" / model.name).iterdir())


def assert_each_step_took_its_batch_once(path):
    """Returns the last line."""
    told = whole_lines(path)
    steps = [line["step"] for line in told]
    assert steps == sorted(set(steps))
    assert [line["samples"] for line in told] == [step * 16 for step in steps]
    return told[-1]


def whats(ledger):
    return [entry["what"] for entry in whole_lines(ledger)]
