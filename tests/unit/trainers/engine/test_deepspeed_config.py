"""Impossible combinations are refused where the recipe is read, with both keys named."""

import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from trainers.engine.deepspeed_config import COUNTERPARTS, PASSED_ON
from trainers.engine.training_config import Training


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"zero": {"stage": 0, "offload_optimizer": "cpu"}}, "cpu needs stage 1, 2 or 3"),
        (
            {"zero": {"stage": 2, "offload_optimizer": "nvme", "nvme_path": "/nvme"}},
            "nvme needs stage 3, found stage 2",
        ),
        ({"zero": {"stage": 2, "offload_parameters": "cpu"}}, "cpu needs stage 3, found stage 2"),
        ({"zero": {"stage": 3, "offload_parameters": "nvme"}}, "missing; offload to nvme needs"),
        (
            {"zero": {"stage": 3, "offload_optimizer": "cpu", "nvme_path": "/nvme"}},
            "'/nvme' is of no use without offload to nvme",
        ),
        ({"precision": "fp16"}, "fp16 needs gpus_per_worker of 1"),
        (
            {"precision": "fp16", "gpus_per_worker": 1, "zero": {"stage": 0}},
            "fp16 needs zero.stage 1, 2 or 3",
        ),
        ({"gpus_per_worker": 2}, "2 is over 1: a worker computes on one GPU; set more workers"),
        (
            {"gpus_per_worker": 0.5, "workers": 2},
            "0.5 needs workers: 1, found 2: NCCL refuses two workers on one GPU",
        ),
        (
            {"gpus_per_worker": 0.5, "workers": {"min": 1, "max": 4}},
            "0.5 needs workers: 1, found 4",
        ),
        ({"optimizer": "adafactor"}, "adafactor needs zero.stage: 0, found 2"),
        ({"optimizer": "muon"}, "muon needs zero.stage: 0, found 2"),
        # DeepSpeed's own keys.
        (
            {"deepspeed": {"zero_optimization": {"stage": 3}}},
            "3 stands beside zero.stage = 2; set that",
        ),
        (
            {"deepspeed": {"gradient_clipping": 2.0}},
            "2.0 stands beside gradient_clipping = 1.0; set that",
        ),
        (
            {"deepspeed": {"fp16": {"enabled": True}}},
            "True stands beside precision = 'auto'; set that",
        ),
        (
            {"deepspeed": {"zero_optimization": {"offload_param": {"device": "cpu"}}}},
            "'cpu' stands beside zero.offload_parameters = None; set that",
        ),
        (
            {"deepspeed": {"bf16": {"check_grad_overflow": False}}},
            "False stands beside anomalies.non_finite = 'skip'; set that",
        ),
        (
            {"deepspeed": {"zero_optimisation": {}}},
            "cannot be passed on to DeepSpeed; did you mean 'zero_optimization'?",
        ),
        ({"deepspeed": {"gradient_allreduce_op": "sum"}}, "cannot be passed on to DeepSpeed"),
    ],
)
def test_contradicting_keys_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Training.model_validate(keys)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"zero": {"stage": 1, "offload_optimizer": "cpu"}},
        {"zero": {"stage": 3, "offload_optimizer": "nvme", "nvme_path": "/nvme"}},
        {"zero": {"stage": 3, "offload_parameters": "cpu"}},
        {"precision": "fp16", "gpus_per_worker": 1},
        {"precision": "fp16", "gpus_per_worker": 0.5},
        {"gpus_per_worker": 0.25, "workers": "auto"},
        {"gpus_per_worker": 1, "workers": {"min": 1, "max": 4}},
        {"optimizer": "adafactor", "zero": {"stage": 0}},
        {"optimizer": "muon", "zero": {"stage": 0}},
        {"optimizer": "lion", "zero": {"stage": 3}},
        {"deepspeed": {"zero_optimization": {"reduce_bucket_size": 5000}, "fp16": {}}},
        {"zero": {"stage": 3}, "deepspeed": {"zero_optimization": {"offload_param": {}}}},
    ],
)
def test_keys_that_go_together_are_accepted(keys: dict[str, Any]) -> None:
    Training.model_validate(keys)


def test_deepspeed_knows_the_keys_that_are_named_here() -> None:
    """It ignores keys that it does not know, so a misspelt one would never be noticed."""
    from deepspeed.comm import constants as communication
    from deepspeed.profiling import constants as profiling
    from deepspeed.runtime import config, constants, precision_config
    from deepspeed.runtime.activation_checkpointing import config as activations
    from deepspeed.runtime.swap_tensor import constants as swapping
    from deepspeed.runtime.zero import config as zero
    from deepspeed.runtime.zero import offload_config
    from deepspeed.utils import config as timers

    known = {"compile"}  # the one that DeepSpeed has no constant for
    assert "param_dict.get('compile'" in inspect.getsource(config)
    for module in (
        constants, communication, profiling, precision_config, activations, swapping, zero, timers,
    ):  # fmt: skip
        known |= {value for value in vars(module).values() if isinstance(value, str)}
    assert {*PASSED_ON, *(key.partition(".")[0] for key in COUNTERPARTS)} <= known
    sections: dict[str, Any] = {
        "fp16": precision_config.DeepSpeedFP16Config,
        "bf16": precision_config.DeepSpeedBF16Config,
        "zero_optimization": zero.DeepSpeedZeroConfig,
        "zero_optimization.offload_optimizer": offload_config.DeepSpeedZeroOffloadOptimizerConfig,
        "zero_optimization.offload_param": offload_config.DeepSpeedZeroOffloadParamConfig,
    }
    for key in COUNTERPARTS:
        section, _, name = key.rpartition(".")
        if section in sections:
            assert name in sections[section].model_fields, key
