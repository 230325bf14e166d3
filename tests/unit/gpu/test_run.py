"""The table of what a GPU shows is there in time and whatever happens, with processes that are
faked."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.gpu import run
from tests.gpu.run import BUDGET_S, COMPARED, END_S, Process, Row, ends, rows, shown, table
from tests.gpu.sizes import sizes
from tests.gpu.stages import STAGES
from tests.gpu.trainings import CHATS, PLAN, cases, not_possible

CUT = "failed: cut, it took longer than its budget of time"


def test_all_budgets_are_within_eight_minutes_with_what_comes_before() -> None:
    assert list(BUDGET_S) == ["train", "adapters", *COMPARED, *STAGES]
    installation_s = 35
    assert sum(BUDGET_S.values()) + installation_s < 8 * 60
    until = ends([*BUDGET_S], began=1000.0, seconds=sum(BUDGET_S.values()))
    assert until["train"] == 1000 + BUDGET_S["train"]
    assert until["chat"] == 1000 + sum(BUDGET_S.values())
    halved = ends(["packing", "serve"], 0.0, sum(BUDGET_S.values()) / 2)
    assert halved == {"packing": 10, "serve": 25}


def python(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_process_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python(tmp_path / "python", "exec sleep 600"))
    with Process("stages", ["serve", "folder"], tmp_path) as process:
        assert process.outcome(time.monotonic() + END_S + 0.1) == (CUT, {})
    assert process._process.poll() is not None


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("echo nothing; echo '{\"loss\": 2.5}'", ("ok", {"loss": 2.5})),
        ("echo 'a line' >&2; echo 'RuntimeError: no GPU' >&2; exit 1", "failed: RuntimeError: no"),
        ("exit 3", "failed: exit status 3"),
    ],
)
def test_what_became_of_a_process_is_told(
    script: str, outcome: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python(tmp_path / "python", script))
    found = Process("stages", ["serve", "folder"], tmp_path).outcome(time.monotonic() + 600)
    assert found == outcome or found[0].startswith(outcome)


class Faked:
    """A Process: the second training hangs, and is cut; the others print their names."""

    running: ClassVar[set["Faked"]] = set()
    started: ClassVar[list[str]] = []

    def __init__(self, module: str, arguments: Sequence[str], folder: Path):
        self.name = arguments[0]
        self.running.add(self)
        self.started.append(self.name)

    def __enter__(self) -> "Faked":
        return self

    def __exit__(self, *_: object) -> None:
        self.running.discard(self)

    def wait_until_ready(self, until: float) -> None: ...

    def go(self) -> None: ...

    def outcome(self, until: float) -> tuple[str, dict[str, Any]]:
        if self.name.startswith(PLAN):
            part = self.name.removeprefix(PLAN)
            return "ok", dict.fromkeys(cases(part, sizes(on_cpu=False)), 12.5)
        return (CUT, {}) if self.name in ("bf16-zero-2", "lora") else ("ok", {"name": self.name})


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> type[Faked]:
    Faked.running.clear()
    Faked.started.clear()
    monkeypatch.setattr(run, "Process", Faked)
    return Faked


@pytest.mark.parametrize(
    ("part", "cut", "last"),
    [("train", "bf16-zero-2", "fp16-zero-3"), ("adapters", "lora", "padded")],
)
def test_a_training_that_hangs_is_named_and_the_next_one_begins(
    part: str, cut: str, last: str, faked: type[Faked], tmp_path: Path
) -> None:
    found = {row.case: row for row in rows({part: time.monotonic() + 600}, tmp_path, False)}
    assert list(found) == cases(part, sizes(on_cpu=False))
    assert found[cut].outcome == CUT
    assert found[cut].figures == {"planned_gb": 12.5}
    assert found[last].figures == {"name": last, "planned_gb": 12.5}
    assert sorted(faked.started) == sorted([f"{PLAN}{part}", *found])
    assert not faked.running


def test_what_a_machine_cannot_do_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    left_out = {case: not_possible(case) for case in CHATS}
    assert left_out.pop("lora-4-bit") == "bitsandbytes is not installed"
    assert {*left_out.values()} == {None}


def test_nothing_begins_when_the_time_is_over(faked: type[Faked], tmp_path: Path) -> None:
    until = {"train": time.monotonic(), "serve": time.monotonic()}
    outcomes = {row.outcome for row in rows(until, tmp_path, on_cpu=True)}
    assert outcomes == {run.NOT_BEGUN}
    assert faked.started == [f"{PLAN}train"]


def test_who_stops_listening_leaves_no_training(faked: type[Faked], tmp_path: Path) -> None:
    coming: Any = rows({"train": time.monotonic() + 600}, tmp_path, on_cpu=False)
    next(coming)
    assert faked.running
    coming.close()
    assert not faked.running


def test_the_table_is_printed_where_a_signal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Iterator[Row]:
        yield Row("train", "bf16", "ok", {"loss": 2.5}, 12.3)
        yield Row("serve", "", "failed: a | b", {}, 1.0)
        sys.exit("ended by a signal")

    monkeypatch.setattr(run, "machine", lambda on_cpu: "a GPU")
    monkeypatch.setattr(run, "rows", interrupted)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        shown({}, tmp_path, on_cpu=True)
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "table.md").read_text()
    assert "| train | bf16 | ok | loss 2.5 | 12 |\n| serve |  | failed: a / b |  | 1 |" in printed


def test_what_is_nested_is_written_out() -> None:
    row = Row("serve", "", "ok", json.loads('{"gb": {"weights": 1234}}'), 0.0)
    assert "gb (weights 1,234)" in table([row], "")
