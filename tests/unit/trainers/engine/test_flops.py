"""What the processors can multiply."""

import pytest
import torch

from trainers.engine import flops
from trainers.engine.training_config import Training


def test_a_peak_that_is_set_is_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops.dist, "get_world_size", lambda: 3)
    assert flops.peak(Training(peak_tflops=2.0), torch.device("cpu")) == 6e12


def test_a_peak_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "MEASURED_S", 0.0)
    monkeypatch.setattr(flops.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    flops.measured_peak.cache_clear()
    measured = flops.peak(Training(precision="fp32"), torch.device("cpu"))
    assert 1e8 < measured < 1e15
    assert flops.peak(Training(precision="fp32"), torch.device("cpu")) == measured
