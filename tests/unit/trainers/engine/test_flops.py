"""What the processors can multiply."""

import numpy as np
import pytest
import torch

from trainers.engine import flops
from trainers.engine.training_config import Training


def test_a_peak_that_is_set_is_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops.dist, "get_world_size", lambda: 3)
    assert flops.peak(Training(peak_tflops=2.0), torch.device("cpu")) == 6e12


def test_a_gpu_in_16_bits_has_the_peak_of_its_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(flops, "measured_peak", lambda *_: 5e13)
    monkeypatch.setattr(torch, "tensor", lambda value, **_: np.array(value))
    monkeypatch.setattr(flops.dist, "all_reduce", lambda total: np.multiply(total, 8, out=total))
    for precision, gpus, expected in (("bf16", 1, 989e12), ("fp16", 0.5, 494.5e12)):
        settings = Training.model_validate({"precision": precision, "gpus_per_worker": gpus})
        assert flops.peak(settings, torch.device("cuda")) == pytest.approx(8 * expected)
    whole = Training.model_validate({"precision": "fp32", "gpus_per_worker": 1})
    assert flops.peak(whole, torch.device("cuda")) == 8 * 5e13


def test_a_peak_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "MEASURED_S", 0.0)
    monkeypatch.setattr(flops.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    flops.measured_peak.cache_clear()
    measured = flops.peak(Training(precision="fp32"), torch.device("cpu"))
    assert 1e8 < measured < 1e15
    assert flops.peak(Training(precision="fp32"), torch.device("cpu")) == measured
