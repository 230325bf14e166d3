import json
import math
from pathlib import Path

import pytest

from cluster.recipe.loading import load
from cluster.store.storage import Storage
from tests.fakes import published
from tuning.winner import Trial, choose, with_winner


def trials(*curves: list[float], status: str = "done") -> list[Trial]:
    return [Trial(number, {}, status, curve, loss=0.5) for number, curve in enumerate(curves)]


@pytest.mark.parametrize(("mode", "winner"), [("max", 1), ("min", 2)])
def test_the_best_last_value_wins(mode: str, winner: int) -> None:
    found = choose(trials([0.9, 0.6], [0.5, 0.8], [0.1, 0.5]), mode)
    assert found is not None
    assert found.number == winner


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equals_the_first_wins(mode: str) -> None:
    found = choose(trials([0.8], [0.8], [0.8]), mode)
    assert found is not None
    assert found.number == 0


def test_of_equals_the_lower_loss_wins() -> None:
    """ray#24610: on a tie of accuracy the winner had a learning rate of 1 and a loss of 31.9."""
    tied = trials([0.8], [0.8], [0.8])
    tied[0].loss, tied[1].loss = 31.9, 0.4
    found = choose(tied, "max")
    assert found is not None
    assert found.number == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_trial_that_diverged_never_wins(loss: float) -> None:
    diverged, other = trials([0.9], [0.5])
    diverged.loss = loss
    assert choose([diverged, other], "max") is other


@pytest.mark.parametrize("status", ["stopped", "failed", "running", "pending"])
def test_a_trial_that_did_not_end_never_wins(status: str) -> None:
    ended = Trial(7, {}, "done", [0.1], loss=2.0)
    assert choose([*trials([0.9], status=status), ended], "max") is ended
    assert choose(trials([0.9], status=status), "max") is None


def test_a_trial_without_a_value_never_wins() -> None:
    assert choose(trials([]), "max") is None
    assert choose([], "max") is None


def test_the_winner_is_applied_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        """\
name: demo
corpora: {sources: {x: {path: x.txt, label: y}}}
pretrain: {model: {hidden_size: 64}}
finetune: {learning_rate: 1e-4, dropout: 0.2}
tune: {space: {finetune.learning_rate: {log_uniform: [1e-4, 1e-3]}}}
"""
    )
    recipe = load(tmp_path / "recipe.yaml")
    winner = {"number": 3, "values": {"finetune.learning_rate": 5e-4, "finetune.epochs": 2}}
    storage = Storage.at(str(tmp_path / "mill"))
    sweep = published(storage, "sweep/demo-tune-00", {"winner.json": json.dumps(winner)})
    found = with_winner(recipe, sweep)
    assert (found.finetune.learning_rate, found.finetune.epochs) == (5e-4, 2)
    assert found.finetune.dropout == 0.2, "what was not searched stays"
    assert found.pretrain == recipe.pretrain
