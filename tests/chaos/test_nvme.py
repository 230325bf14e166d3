"""Offload to a disk. With the long tests, since DeepSpeed first compiles its part for it, for
minutes of a core; needs libaio-dev."""

from pathlib import Path
from typing import Any

import deepspeed
import pytest

from tests import numbered
from tests.integration.worlds import Case, Weights, distance, trained
from trainers.engine.training_config import Training
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.pretraining.causal_lm import CausalLM

BATCH, BATCHES = 12, 2

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not deepspeed.ops.__compatible_ops__["async_io"], reason="needs libaio-dev"),
]


def settings(precision: str, device: str, disk: Path) -> Training:
    zero = {"stage": 3, "offload_optimizer": device, "offload_parameters": device}
    place = {"nvme_path": str(disk)} if device == "nvme" else {}
    cut = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    keys = {"workers": 2, "zero": {**zero, **place}, "deepspeed": cut, "checkpoint_minutes": 1e-9}
    return Training.model_validate({**numbered.settings(), **keys, "precision": precision})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weights]:
    """Of a model whose parts DeepSpeed finds large enough for a disk."""
    small = numbered.task(tmp_path_factory.mktemp("mill"), BATCH * BATCHES)
    shape = {"architecture": "llama", "hidden_size": 160, "layers": 3, "heads": 2}
    task = CausalLM(small.corpus, Start(Shape.model_validate(shape)), small.seed, 1)
    disk = tmp_path_factory.mktemp("nvme")
    cases: dict[str, Case] = {}
    for precision in ("fp32", "bf16"):
        for device in ("cpu", "nvme"):
            one: Any = settings(precision, device, disk)
            cases[f"{precision}/{device}"] = Case(task, one)
            cases[f"{precision}/{device}/resumed"] = Case(task, one, resumes=True)
    weights = trained(cases, tmp_path_factory.mktemp("worlds"))
    assert not [path for path in disk.iterdir() if path.is_dir()], "nothing is left on the disk"
    return weights


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_does_not_count_where_state_is_kept(precision: str, weights: Any) -> None:
    assert distance(weights[f"{precision}/nvme"], weights[f"{precision}/cpu"]) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_ends_where_it_would_have(precision: str, weights: Any) -> None:
    assert distance(weights[f"{precision}/nvme/resumed"], weights[f"{precision}/nvme"]) == 0
