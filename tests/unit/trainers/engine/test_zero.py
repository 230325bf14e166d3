from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cluster.errors import UserError
from trainers.engine import zero
from trainers.engine.deepspeed_config import Zero
from trainers.engine.training_config import Training
from trainers.engine.zero import (
    accumulation,
    agreed_precision,
    config,
    engine,
    gradient_divisor,
    resolve_precision,
)
from trainers.parallel.topology import Topology
from trainers.tasks.pretraining.config import Pretrain

SIZE = 1_000_000
"""Trained parameters."""


@pytest.mark.parametrize(
    ("batch_size", "workers", "micro_batch_size", "expected"),
    [
        (32, 1, 16, (16, 2)),
        (32, 2, 16, (16, 1)),
        (32, 2, 64, (16, 1)),
        (32, 3, 16, (11, 1)),
        (30, 1, 16, (15, 2)),
        (33, 2, 4, (4, 5)),
        (8, 8, 16, (1, 1)),
        (7, 2, 1, (1, 4)),
    ],
)
def test_micro_batches_are_few_and_even(
    batch_size: int, workers: int, micro_batch_size: int, expected: tuple[int, int]
) -> None:
    assert accumulation(batch_size, workers, micro_batch_size) == expected


def test_accumulation_covers_the_batch_at_any_number_of_workers() -> None:
    for batch_size in range(1, 70):
        for workers in range(1, batch_size + 1):
            for largest in (1, 3, 16):
                micro_batch, steps = accumulation(batch_size, workers, largest)
                assert micro_batch <= largest
                assert workers * micro_batch * steps >= batch_size
                assert workers * micro_batch * (steps - 1) < batch_size


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_section_becomes_deepspeeds_configuration(stage: int) -> None:
    settings = Training(
        batch_size=32,
        micro_batch_size=8,
        gradient_clipping=0.5,
        zero=Zero.model_validate({"stage": stage}),
    )
    made = config(settings, dp_size=2, precision="bf16", trained=SIZE)
    assert made["zero_optimization"]["stage"] == stage
    assert made["train_micro_batch_size_per_gpu"] == 8
    assert made["gradient_accumulation_steps"] == 2
    assert made["gradient_clipping"] == 0.5
    assert made["bf16"] == {"enabled": True}
    assert config(settings, 2, "fp32", SIZE)["bf16"] == {"enabled": False}


def test_tensor_parallelism_cuts_layers_and_not_the_output_head() -> None:
    keys = {"objective": "causal_lm", "model": {"architecture": "llama"}, "workers": 4}
    settings = Pretrain.model_validate({**keys, "tensor_parallel": 2})
    made = config(settings, dp_size=2, precision="fp32", trained=SIZE)
    assert made["tensor_parallel"] == {"autotp_size": 2, "vocab_parallel_lm_head": False}
    assert "tensor_parallel" not in config(Pretrain.model_validate(keys), 4, "fp32", SIZE)


@pytest.mark.parametrize(
    ("stage", "sp_size", "tp_size", "divisor"), [(2, 2, 1, 3), (3, 2, 1, 6), (3, 1, 2, 3)]
)
def test_stage_3_averages_over_ranks_that_divide_tokens(
    stage: int, sp_size: int, tp_size: int, divisor: int
) -> None:
    settings = Training.model_validate({"zero": {"stage": stage}})
    assert gradient_divisor(settings, Topology.of(0, 6, sp_size, tp_size)) == divisor


def test_precision_is_one_of_three() -> None:
    for precision in ("fp32", "bf16", "fp16"):
        made = config(Training(), dp_size=1, precision=precision, trained=SIZE)
        assert made["bf16"] == {"enabled": precision == "bf16"}
        assert made["fp16"] == {"enabled": precision == "fp16"}


def test_offload_is_named_as_deepspeed_does() -> None:
    zero = {
        "stage": 3,
        "offload_optimizer": "cpu",
        "offload_parameters": "nvme",
        "nvme_path": "/nvme",
    }
    settings = Training.model_validate({"zero": zero})
    made = config(settings, 1, "bf16", SIZE, nvme_path="/nvme/own")
    assert made["zero_optimization"] == {
        "stage": 3,
        "reduce_bucket_size": SIZE,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "nvme", "nvme_path": "/nvme/own"},
    }
    assert not made["zero_force_ds_cpu_optimizer"], "torch's AdamW steps on the CPU"


@pytest.mark.parametrize(("passed", "expected"), [({}, True), ({"pin_memory": False}, False)])
def test_what_a_gpu_offloads_is_pinned_unless_it_is_said(
    passed: dict[str, Any], expected: bool
) -> None:
    zero = {"stage": 2, "offload_optimizer": "cpu"}
    deepspeed = {"zero_optimization": {"offload_optimizer": passed}}
    keys = {"zero": zero, "gpus_per_worker": 1, "deepspeed": deepspeed}
    made = config(Training.model_validate(keys), dp_size=1, precision="bf16", trained=SIZE)
    offload = made["zero_optimization"]["offload_optimizer"]
    assert offload == {"device": "cpu", "pin_memory": expected}


def test_keys_that_are_passed_on_are_merged_with_raymills() -> None:
    settings = Training.model_validate(
        {
            "zero": {"stage": 3, "offload_optimizer": "cpu"},
            "deepspeed": {
                "wall_clock_breakdown": True,
                "zero_optimization": {
                    "reduce_bucket_size": 5000,
                    "offload_optimizer": {"pin_memory": False},
                },
            },
        }
    )
    made = config(settings, dp_size=1, precision="bf16", trained=SIZE)
    assert made["wall_clock_breakdown"] is True
    assert made["zero_optimization"] == {
        "stage": 3,
        "reduce_bucket_size": 5000,
        "offload_optimizer": {"device": "cpu", "pin_memory": False},
    }
    assert made["gradient_clipping"] == 1.0


@pytest.mark.parametrize(
    ("trained", "passed", "expected"),
    [(SIZE, {}, SIZE), (8_000 * SIZE, {}, 500 * SIZE), (SIZE, {"reduce_bucket_size": 5}, 5)],
)
def test_no_bucket_is_larger_than_all_gradients(
    trained: int, passed: dict[str, int], expected: int
) -> None:
    settings = Training.model_validate({"deepspeed": {"zero_optimization": passed}})
    made = config(settings, dp_size=1, precision="bf16", trained=trained)
    assert made["zero_optimization"]["reduce_bucket_size"] == expected


@pytest.fixture
def alone() -> Iterator[None]:
    """The only worker."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"deepspeed": {"zero_optimization": {"reduce_bucket": 5}}},
            "pretrain.deepspeed: reduce_bucket: Extra inputs are not permitted",
        ),
        ({"deepspeed": {"fp16": {"hysteresis": "x"}}}, "pretrain.deepspeed: hysteresis: "),
        (
            {"zero": {"stage": 3, "offload_optimizer": "nvme", "nvme_path": "/nvme"}},
            "pretrain.zero.nvme_path: offload to nvme needs libaio",
        ),
    ],
)
@pytest.mark.usefixtures("alone")
def test_what_deepspeed_refuses_is_an_error_of_the_user(
    keys: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepspeed

    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "async_io", False)
    settings = Pretrain.model_validate({"model": {}, **keys})
    with pytest.raises(UserError) as raised:
        engine(nn.Linear(2, 2), settings)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "device", "has_bf16", "expected"),
    [
        ({"precision": "bf16"}, "cpu", False, "bf16"),
        ({"precision": "fp32"}, "cuda", True, "fp32"),
        ({}, "cpu", True, "bf16"),
        ({}, "cpu", False, "fp32"),
        ({}, "cuda", True, "bf16"),
        ({}, "cuda", False, "fp16"),
        ({"zero": {"stage": 0}}, "cuda", False, "fp32"),  # which scales no loss
    ],
)
def test_precision_follows_the_processor_by_default(
    keys: dict[str, Any],
    device: str,
    has_bf16: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zero, "multiplies_bf16", lambda device: has_bf16)
    settings = Training.model_validate(keys)
    assert resolve_precision(settings, torch.device(device)) == expected


@pytest.mark.parametrize(("others", "expected"), [([], "bf16"), (["fp32"], "fp32")])
def test_ranks_of_different_processors_compute_in_the_same_precision(
    others: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero, "multiplies_bf16", lambda device: True)
    monkeypatch.setattr(zero, "first_reason", lambda own: [own, *others][-1])
    assert agreed_precision(Training(), torch.device("cpu")) == expected
