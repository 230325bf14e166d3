"""Which device a process computes on, on nodes with GPUs that are faked."""

from typing import Any

import pytest
import torch

from cluster.errors import UserError
from trainers.models.devices import multiplies_bf16, own_device


class Gpus:
    """What torch.cuda is told, on a node with GPUs or without."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, are_there: bool):
        self.told: list[Any] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: are_there)
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.told.append(str(device)))
        monkeypatch.setattr(
            torch.cuda,
            "set_per_process_memory_fraction",
            lambda share, device: self.told.append((share, str(device))),
        )


def test_a_process_without_a_gpu_leaves_those_of_its_node_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Gpus(monkeypatch, are_there=True)
    assert own_device(0, local_rank=3) == torch.device("cpu")
    assert node.told == []


def test_a_worker_of_a_group_has_the_gpu_of_its_local_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Gpus(monkeypatch, are_there=True)
    assert own_device(1, local_rank=3) == torch.device("cuda", 3)
    assert node.told == ["cuda:3"]


def test_a_fraction_takes_no_more_memory_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Gpus(monkeypatch, are_there=True)
    assert own_device(0.25) == torch.device("cuda", 0)
    assert node.told == ["cuda:0", (0.25, "cuda:0")]


def test_a_node_whose_torch_sees_no_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpus(monkeypatch, are_there=False)
    with pytest.raises(UserError, match=r"on node \S+ sees none; install a build for CUDA"):
        own_device(1)


def test_emulated_bf16_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says of a T4 that it supports bf16, and emulates it."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not multiplies_bf16(torch.device("cuda"))
