"""Metrics and the ledger of a training, over workers and drivers that are killed."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from cluster.recipe import section
from cluster.runs import ledger
from cluster.runs.stored_journals import LEDGER, METRICS
from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.checkpoints.state import LoopState
from trainers.engine import journal
from trainers.engine.job import JournalConfig, TrainJob
from trainers.engine.journal import Journal
from trainers.engine.training_config import Training

BATCH = 8
LENGTH = 64
FLOPS = 2e6
"""Of a step."""


class Engine:
    device = torch.device("cpu")

    def __init__(self, norm: float | None = 0.5):
        self.optimizer = self
        self.param_groups = [{"lr": 1e-3}]
        self._norm = norm

    def get_global_grad_norm(self) -> float | None:
        return self._norm


class World:
    """Rank 0 of `workers`, all with its values; its clock moves by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 1):
        self.now = 100.0
        monkeypatch.setattr(journal.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(journal.dist, "get_world_size", lambda: workers)
        monkeypatch.setattr(journal.dist, "all_reduce", lambda rows: rows.copy_(rows[:1].clone()))
        monkeypatch.setattr(ledger.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(ledger.time, "time", lambda: 1e6 + self.now)

    def train(
        self, book: Journal, state: LoopState, steps: int, step_s: float = 0.25, wait_s: float = 0.0
    ) -> None:
        for _ in range(steps):
            self.now += step_s
            state.step += 1
            state.samples += BATCH
            state.tokens += BATCH * LENGTH
            state.flops += FLOPS
            state.seconds += step_s
            state.data_wait_seconds += wait_s
            book.step(state, loss=10.0 / state.step)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(Storage.at(str(tmp_path)), "model/demo-pretrain-0123")


def journal_of(
    draft: Draft, state: LoopState, began: float = 1e6 + 100, engine: Engine | None = None
) -> Journal:
    config = JournalConfig("demo", began, trackers=())
    job = TrainJob(None, Training(peak_tflops=1e-3), 17, draft, config)  # type: ignore[arg-type]
    return Journal(job, engine or Engine(), state, Notes(), time.monotonic())


def lines(draft: Draft, name: str = METRICS) -> list[dict[str, Any]]:
    text = draft.storage.read(f"{draft.work}/{name}").decode()
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_a_second_has_the_metrics(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 9, wait_s=0.05)
    first, second = lines(draft)
    assert (first["step"], second["step"]) == (5, 9), "a second behind the first step"
    assert second["loss"] == pytest.approx(sum(10 / step for step in (6, 7, 8, 9)) / 4)
    assert first["tokens_per_second"] == BATCH * LENGTH * 4
    assert first["data_wait"] == pytest.approx(0.2)
    assert first["mfu"] == pytest.approx(4 * FLOPS / 1e9)
    assert (first["learning_rate"], first["gradient_norm"]) == (1e-3, 0.5)
    assert first["samples"] == 5 * BATCH
    assert 0.01 < first["rss_peak_gb"] < 100


def test_validations_and_checkpoints_have_a_line(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 3)
        with book.spent("evaluation"):
            world.now += 4
        state.step += 1
        book.step(state, 1.0, validation={"loss": 2.0, "accuracy": 0.5})
        with book.spent("checkpoint"):
            world.now += 2
        state.step += 1
        book.step(state, 1.0, saved=True)
    validated, saved = lines(draft)
    assert validated["validation"] == {"loss": 2.0, "accuracy": 0.5}
    assert saved["checkpoint_s"] == 2
    entry = lines(draft, LEDGER)[-1]
    assert (entry["saved"], entry["spent"]) == (True, {"checkpoint": 2.0})
    assert book.ledger.account.parts["evaluation"] == 4
    (start,) = (entry for entry in lines(draft, LEDGER) if entry["what"] == "start")
    assert 0 <= start["setup_s"] < 60


def test_steps_increase_over_restarts_and_commands(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 19)
        state.step += 1
        book.step(state, 1.0, saved=True)
        world.train(book, state, 10)
    world.now += 10  # a worker is lost; the last checkpoint is of step 20
    state = LoopState(step=20, samples=20 * BATCH, tokens=20 * BATCH * LENGTH, seconds=5.0)
    with journal_of(draft, state) as book:
        assert [line["step"] for line in lines(draft)] == [5, 9, 13, 17, 20]
        world.train(book, state, 20)
    world.now += 50  # the driver is killed; another command goes on
    state = LoopState(step=40, samples=40 * BATCH, tokens=40 * BATCH * LENGTH, seconds=10.0)
    with journal_of(draft, state, began=1e6 + world.now - 5) as book:
        world.train(book, state, 20)
        book.end(state)
    steps = [line["step"] for line in lines(draft)]
    assert steps == sorted(set(steps))
    assert steps[-1] >= 57
    made = book.ledger.account
    assert made.parts["lost"] == pytest.approx(8 * 0.25), "21 to 28; later there was no line"
    assert made.parts["restart"] == pytest.approx(2 * 0.25 + 10 + 0.25)
    assert made.parts["idle"] == pytest.approx(45, abs=1)
    assert sum(made.parts.values()) == pytest.approx(made.whole)
    assert made.whole == pytest.approx(world.now - 100)


def test_the_files_are_published_with_the_model(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 9)
        with book.spent("export"):
            world.now += 3
        costs = book.end(state)
    assert costs["wall_seconds"] == {"compute": 2.0, "export": 3.0, "startup": 0.25}
    assert costs["goodput"] == round(2 / 5.25, 4)
    assert costs["mfu"] == lines(draft)[0]["mfu"]
    for name in (METRICS, LEDGER):
        published = draft.storage.read(f"{draft.place}/{name}")
        assert published == draft.storage.read(f"{draft.work}/{name}")


def test_long_trainings_have_fewer_lines(world: World, draft: Draft) -> None:
    day = 24 * 3600.0
    state = LoopState(step=1, seconds=day)
    with journal_of(draft, state) as book:
        world.train(book, state, 241, step_s=1.0)
    assert len(lines(draft)) == 9, "one in 25 s"


def test_a_norm_that_deepspeed_does_not_tell_is_left_out(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state, engine=Engine(norm=None)) as book:
        world.train(book, state, 5)
    assert "gradient_norm" not in lines(draft)[0]


def test_the_loss_is_summed_over_ranks(monkeypatch: pytest.MonkeyPatch, draft: Draft) -> None:
    world, state = World(monkeypatch, workers=2), LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 5)
    assert lines(draft)[0]["loss"] == pytest.approx(2 * sum(10 / n for n in range(1, 6)) / 5)


def test_a_loss_that_is_no_number_is_null(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state, engine=Engine(norm=math.inf)) as book:
        world.train(book, state, 5)
        state.step, state.fraction = 6, 1.0
        book.step(state, loss=math.nan, validation={"loss": math.inf, "accuracy": 0.5})
    assert [line["loss"] is None for line in lines(draft)] == [False, True]
    assert lines(draft)[0]["gradient_norm"] is None
    assert lines(draft)[1]["validation"] == {"loss": None, "accuracy": 0.5}
    assert "NaN" not in draft.storage.read(f"{draft.work}/{METRICS}").decode()


def test_steps_that_were_not_taken_are_counted(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 5)
        state.skipped_steps, state.rollbacks = 2, 1
        world.train(book, state, 5)
    first, second = lines(draft)
    assert "skipped_steps" not in first
    assert (second["skipped_steps"], second["rollbacks"]) == (2, 1)


def test_a_roll_back_is_lost_work_and_steps_go_on(world: World, draft: Draft) -> None:
    state = LoopState()
    with journal_of(draft, state) as book:
        world.train(book, state, 9)
        book.rolled_back(5, state)
        world.train(book, state, 8)
    assert [line["step"] for line in lines(draft)] == [5, 9, 13, 17]
    assert lines(draft)[2]["tokens_per_second"] == BATCH * LENGTH * 4
    assert book.ledger.account.parts["lost"] == pytest.approx(1)


def test_without_a_configuration_nothing_is_written(world: World) -> None:
    state = LoopState()
    job = TrainJob(None, Training(), 17)  # type: ignore[arg-type]
    with Journal(job, Engine(), state, Notes(), 0.0) as book:
        world.train(book, state, 5)
        assert "mfu" not in book.end(state)


def test_a_tracker_that_is_not_installed_is_refused(
    world: World, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(section.TRACKERS, "wandb", "no_such_package")
    config = JournalConfig("demo", 1e6, trackers=("wandb",))
    job = TrainJob(None, Training(peak_tflops=1), 17, draft, config)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"cluster.trackers: wandb .* 'raymill\[wandb\]'"):
        Journal(job, Engine(), LoopState(), Notes(), 0.0)
