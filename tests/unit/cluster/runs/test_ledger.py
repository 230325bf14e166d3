"""Where wall time went: parts sum to the whole, whatever was lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runs import ledger
from cluster.runs.ledger import Ledger, account
from cluster.store.jsonl import Lines
from cluster.store.storage import Storage


def command(at: float) -> dict[str, Any]:
    return {"at": at, "what": "command"}


def start(at: float, step: int) -> dict[str, Any]:
    return {"at": at, "what": "start", "step": step}


def steps(at: float, step: int, **spent: float) -> dict[str, Any]:
    return {"at": at, "what": "steps", "step": step, "spent": spent}


UNBROKEN = [
    command(100),
    start(110, 0),
    steps(120, 50, data_wait=0.5),
    steps(130, 100, checkpoint=2, data_wait=0.5),
    steps(140, 150, evaluation=3),
    steps(142, 150, export=1.5),
]


def test_an_unbroken_run() -> None:
    made = account(UNBROKEN)
    assert made.parts == {
        "idle": 0,
        "startup": 10,
        "compute": 9.5 + 7.5 + 7 + 0.5,
        "data_wait": 1,
        "checkpoint": 2,
        "evaluation": 3,
        "export": 1.5,
    }
    assert made.whole == 42
    assert made.goodput == 24.5 / 42
    assert made.as_metrics()["wall_seconds"]["compute"] == 24.5
    assert list(made.as_metrics()["wall_seconds"]) == [
        "compute", "data_wait", "checkpoint", "evaluation", "export", "startup",
    ]  # fmt: skip


def test_a_lost_worker_costs_a_restart_and_the_steps_since_the_checkpoint() -> None:
    made = account([*UNBROKEN[:5], start(175, 100), steps(185, 150)])
    assert made.parts["restart"] == 35, "from the last that was heard to the first new step"
    assert made.parts["lost"] == 10, "steps 101 to 150, with their evaluation"
    assert made.parts["evaluation"] == 0
    assert made.parts["compute"] == 9.5 + 7.5 + 10
    assert made.whole == 85


def test_between_two_commands_it_is_idle() -> None:
    made = account([*UNBROKEN[:3], command(1000), start(1020, 0), steps(1030, 50)])
    assert made.parts["idle"] == 880
    assert made.parts["startup"] == 10 + 20
    assert made.parts["lost"] == 10, "there was no checkpoint"
    assert made.goodput == 10 / 930


def test_steps_may_be_lost_more_than_once() -> None:
    """The last checkpoint turns out to be damaged: the one before it counts."""
    made = account([*UNBROKEN[:4], start(135, 100), start(140, 50), steps(150, 100)])
    assert made.parts["lost"] == 10
    assert made.parts["restart"] == 10
    assert made.parts["checkpoint"] == 0
    assert made.whole == 50


def test_what_a_roll_back_throws_away_is_lost() -> None:
    back = {"at": 144, "what": "back", "step": 100}
    made = account([*UNBROKEN[:5], back, steps(150, 180), command(160), start(165, 180)])
    assert made.parts["lost"] == 10 + 4, "with the time since the last entry"
    assert made.parts["compute"] == 9.5 + 7.5 + 6
    assert made.whole == 65


def test_no_time_is_counted_twice_where_more_was_told_than_passed() -> None:
    made = account([command(0), start(1, 0), steps(2, 5, data_wait=3, checkpoint=1)])
    assert made.parts["data_wait"] == 0.75
    assert made.parts["compute"] == 0


def test_nothing_yet() -> None:
    assert account([]).as_metrics() == {"goodput": 0.0, "wall_seconds": {}}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["command", "start", "steps", "back"]),
            st.floats(-5, 100),
            st.integers(0, 20),
            st.dictionaries(
                st.sampled_from(["data_wait", "checkpoint", "evaluation"]), st.floats(0, 50)
            ),
        ),
        max_size=40,
    )
)
def test_parts_sum_to_the_whole(events: list[tuple[str, float, int, dict[str, float]]]) -> None:
    """Whatever came, and also with clocks that go back."""
    at, entries = 1.7e9, []
    for what, gap, step, spent in events:
        at += gap
        entries.append({"at": at, "what": what, "step": step, "spent": spent})
    made = account(entries)
    assert sum(made.parts.values()) == pytest.approx(made.whole, abs=1e-3)
    assert all(seconds >= -1e-3 for seconds in made.parts.values())


class Clocks:
    """`time`, moved by hand."""

    def __init__(self) -> None:
        self.now = 5000.0

    def time(self) -> float:
        return 1e6 + self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(ledger, "time", clocks)
    return clocks


def test_a_ledger_goes_on_where_a_killed_writer_left_it(storage: Storage, clocks: Clocks) -> None:
    def attempt(began: float, step: int, counted: int) -> Ledger:
        lines = Lines(storage, "work/x/ledger.jsonl")
        book = Ledger(lines)
        book.command(began)
        clocks.now += 8
        book.start(step)
        for number in range(counted):
            clocks.now += 10
            with book.spent("checkpoint"):
                clocks.now += 1
            spent = book.steps(step + 10 * (number + 1))
            assert spent == {"compute": 10, "checkpoint": 1}
        lines.close()
        return book

    first = clocks.time()
    attempt(first, 0, 2)
    clocks.now += 4  # a worker is lost within the same command
    attempt(first, 10, 1)
    clocks.now += 500  # the driver is killed
    last = attempt(clocks.time() - 2, 20, 3)
    assert {part: round(seconds, 6) for part, seconds in last.account.parts.items()} == {
        "idle": 498,
        "startup": 8 + 10,
        "compute": 10 + 10 + 30,
        "checkpoint": 1 + 1 + 3,
        "lost": 11,
        "restart": 12,
    }
    assert account(Lines(storage, "work/x/ledger.jsonl").records) == last.account


def test_without_a_file_a_process_counts_for_itself(clocks: Clocks) -> None:
    book = Ledger(None)
    book.command(clocks.time())
    clocks.now += 3
    book.start(0)
    clocks.now += 7
    book.add("data_wait", 1.0)
    book.steps(5)
    assert book.account.parts == {"idle": 0, "startup": 3, "compute": 6, "data_wait": 1}
