"""A step that would do harm is not taken: on any worker's account, at any of ZeRO's stages, and
with nothing of it left in the gradients, the optimizer or the weights."""

import math
from typing import Any

import pytest

from tests import numbered
from tests.integration.worlds import Case, distance, trained
from tests.wrapped import Dull, Magnified
from trainers.engine.training_config import Training
from trainers.tasks.pretraining.causal_lm import CausalLM

BATCH, BATCHES = 4, 8
BAD = 5
"""The batch that a step is not taken for."""
STAGES: dict[str, dict[str, Any]] = {
    "0/fp32": {"stage": 0},
    "1/bf16": {"stage": 1},
    "2-offloaded/bf16": {"stage": 2, "offload_optimizer": "cpu"},
    "3/bf16": {"stage": 3},
}
"""ZeRO by name and precision."""
STEADY = {"anomalies": {"spike": "skip", "window": 4, "sigma": 50.0}}
ROLLING_BACK = {"anomalies": {"non_finite": "roll_back"}, "checkpoint_steps": 3}
"""The last checkpoint is two steps behind."""
LEFT_OUT = [[BAD * BATCH, (BAD + 1) * BATCH]]


def settings(where: str, workers: int = 2, **keys: Any) -> Training:
    return Training.model_validate(
        {
            "workers": workers,
            "batch_size": BATCH,
            "micro_batch_size": 1,
            "learning_rate": 0.1,
            "schedule": "constant",
            "warmup": 0.0,
            "precision": where.rpartition("/")[2],
            "zero": STAGES[where],
            **keys,
        }
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    return numbered.task(tmp_path_factory.mktemp("mill"), BATCH * BATCHES)


@pytest.fixture(scope="module")
def weights(task: CausalLM, tmp_path_factory: pytest.TempPathFactory) -> Any:
    nan = Magnified(task, {BAD * BATCH + 2: math.nan})  # on one rank, in one of its micro-batches
    spike = Magnified(task, dict.fromkeys(range(BAD * BATCH, (BAD + 1) * BATCH), 100.0))
    at_end = Magnified(task, {BATCHES * BATCH - 1: math.inf})
    cases = {}
    for where in STAGES:
        steady, rolling_back = settings(where, **STEADY), settings(where, **ROLLING_BACK)
        cases[f"dull/{where}"] = Case(Dull(task, [BAD], BATCH), settings(where), plain=True)
        cases[f"nan/{where}"] = Case(nan, settings(where), plain=True, left_out=LEFT_OUT)
        cases[f"spike/{where}"] = Case(spike, steady, plain=True, left_out=LEFT_OUT)
        forgotten = Dull(task, [BAD - 2, BAD - 1, BAD], BATCH)
        since = [[(BAD - 2) * BATCH, (BAD + 1) * BATCH]]
        cases[f"forgotten/{where}"] = Case(forgotten, settings(where), plain=True)
        cases[f"back/{where}"] = Case(nan, rolling_back, plain=True, left_out=since)
        whole, shorter = settings(where), settings(where, epochs=(BATCHES - 1) / BATCHES)
        last = [[(BATCHES - 1) * BATCH, BATCHES * BATCH]]
        cases[f"end/{where}"] = Case(at_end, whole, left_out=last)
        cases[f"shorter/{where}"] = Case(task, shorter)
    alone = settings("0/fp32", workers=1)
    cases["dull/alone"] = Case(Dull(task, [BAD], BATCH), alone, plain=True)
    cases["nan/alone"] = Case(nan, alone, plain=True, left_out=LEFT_OUT)
    cases["all/alone"] = Case(task, alone, plain=True)
    return trained(cases, tmp_path_factory.mktemp("worlds"))


@pytest.mark.parametrize("where", STAGES)
@pytest.mark.parametrize("kind", ["nan", "spike"])
def test_a_step_that_is_not_taken_leaves_nothing(kind: str, where: str, weights: Any) -> None:
    assert distance(weights[f"{kind}/{where}"], weights[f"dull/{where}"]) == 0


@pytest.mark.parametrize("where", STAGES)
def test_to_roll_back_forgets_what_came_since_the_checkpoint(where: str, weights: Any) -> None:
    assert distance(weights[f"back/{where}"], weights[f"forgotten/{where}"]) == 0
    assert distance(weights[f"back/{where}"], weights[f"nan/{where}"]) > 1e-4


@pytest.mark.parametrize("where", STAGES)
def test_a_last_step_that_is_not_taken_is_as_none(where: str, weights: Any) -> None:
    """With AdamW, whose state would move too."""
    assert distance(weights[f"end/{where}"], weights[f"shorter/{where}"]) == 0


def test_one_worker_skips_it_too(weights: Any) -> None:
    assert distance(weights["nan/alone"], weights["dull/alone"]) == 0
    assert distance(weights["nan/alone"], weights["all/alone"]) > 1e-4, "there is something to miss"
