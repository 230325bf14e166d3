"""When checkpoints are due, evaluation, and activations that are computed again."""

from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import UserError
from tests.rows import InMemory
from trainers.checkpoints.state import LoopState
from trainers.engine import loop
from trainers.engine.stop_requests import Request
from trainers.engine.training_config import Training
from trainers.models.build import Start, build, recompute_activations
from trainers.models.shape import Shape
from trainers.parallel.topology import Topology
from trainers.tasks.task import Objective


def test_a_checkpoint_is_due_by_the_time_that_ranks_agree_on() -> None:
    state = LoopState(seconds=100.0)
    clock = loop._Clock(state, Training(checkpoint_minutes=1))
    assert clock.seconds >= 100, "it goes on after a restart"
    assert not clock.checkpoint_is_due
    state.seconds = 160.0
    assert clock.checkpoint_is_due
    assert not clock.checkpoint_is_due, "once an interval"


def test_checkpoints_are_due_by_time_by_steps_and_on_request() -> None:
    state = LoopState()
    clock = loop._Clock(state, Training(checkpoint_minutes=1, checkpoint_steps=20))
    due = []
    for state.step in range(1, 61):
        state.seconds += 2.5
        clock.request = Request.SAVE if state.step == 33 else Request.NOTHING
        if clock.checkpoint_is_due:
            due.append(state.step)
    assert due == [20, 33, 40, 60]
    clock = loop._Clock(state, Training(checkpoint_minutes=1))
    for state.step in range(61, 121):
        state.seconds += 2.5
        if clock.checkpoint_is_due:
            due.append(state.step)
    assert due == [20, 33, 40, 60, 84, 108]


@pytest.mark.parametrize("again", [False, True])
def test_activations_are_computed_again_for_the_gradient(again: bool, tokenizer: Any) -> None:
    shape = Shape(architecture="llama", hidden_size=16, layers=2, heads=2)
    objective = Objective(build(Start(shape=shape), "AutoModelForCausalLM", tokenizer), task=None)  # type: ignore[arg-type]
    if again:
        recompute_activations(objective.model)
    passes: list[str] = []
    for layer in objective.model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: passes.append("mlp"))
    objective.train()
    objective.model(torch.ones(1, 4, dtype=torch.int64), use_cache=False).logits.sum().backward()
    assert len(passes) == (4 if again else 2)


def test_a_model_that_cannot_compute_activations_again_is_refused(tokenizer: Any) -> None:
    model = build(
        Start(shape=Shape(hidden_size=16, layers=1, heads=2)), "AutoModelForMaskedLM", tokenizer
    )
    model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match="activation_checkpointing: 'bert' cannot do it"):
        recompute_activations(model)


def test_evaluation_covers_every_row_once_at_any_number_of_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = InMemory([[sample] * (1 + sample % 7) for sample in range(17)])
    settings = Training(micro_batch_size=2)
    for workers in (1, 2, 3):
        totals: list[np.ndarray] = []
        for rank in range(workers):
            task = Sums()
            monkeypatch.setattr(loop.dist, "all_reduce", lambda tensor: None)
            loop.evaluate(task, task, settings, Topology.of(rank, workers), rows)  # type: ignore[arg-type]
            totals.append(np.array([*task.totals, *task.by_parity]))
        assert np.sum(totals, axis=0).tolist() == [sum(range(17)), 17, 17, 9, 8]


class Sums:
    """Engine and task in one: the loss of a sample is its number."""

    device = "cpu"

    def eval(self) -> None:
        pass

    def collate(self, rows: list[dict[str, Any]], numbers: list[int]) -> dict[str, torch.Tensor]:
        return {"labels": torch.tensor([row["input_ids"][0] for row in rows])}

    def __call__(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
        return batch["labels"].sum(), {
            "correct": torch.tensor(len(batch["labels"])),
            "parity": torch.bincount(batch["labels"] % 2, minlength=2),
        }

    def targets(self, batch: dict[str, torch.Tensor]) -> float:
        return len(batch["labels"])

    def metrics(self, counts: dict[str, torch.Tensor]) -> dict[str, float]:
        self.totals = [float(counts[name]) for name in ("loss", "targets", "correct")]
        self.by_parity = counts["parity"].tolist()
        return {}


def test_a_batch_of_coupled_samples_is_not_cut() -> None:
    """It would silently have fewer in-batch negatives, and another loss."""

    class Coupled:
        rows_are_coupled = True

    class Pairs(Training):
        section = "finetune"

    whole = Pairs(batch_size=8, micro_batch_size=8)
    loop._refuse_cut_batches(Coupled(), whole, workers=1)  # type: ignore[arg-type]
    for settings, workers in ((whole, 2), (Pairs(batch_size=8, micro_batch_size=4), 1)):
        with pytest.raises(UserError, match=r"^finetune\.micro_batch_size: this task compares"):
            loop._refuse_cut_batches(Coupled(), settings, workers)  # type: ignore[arg-type]
