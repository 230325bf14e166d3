"""Which device a process computes on, on nodes with GPUs that are faked."""

import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from trainers.models.devices import (
    CONTEXT_BYTES,
    multiplies_bf16,
    own_device,
    share_for_tensors,
)

ROOT = Path(__file__).parents[4]
MEMORY = 80_000_000_000


class Gpus:
    """What torch.cuda is told, on a node with GPUs or without."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, are_there: bool):
        self.told: list[Any] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: are_there)
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.told.append(str(device)))
        has_memory = types.SimpleNamespace(total_memory=MEMORY)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: has_memory)
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
    assert node.told == ["cuda:0", (0.25 - CONTEXT_BYTES / MEMORY, "cuda:0")]


@given(processes=st.integers(1, 16), memory=st.integers(12 * 10**9, 200 * 10**9))
def test_processes_that_share_a_gpu_fit_on_it_with_their_contexts(
    processes: int, memory: int
) -> None:
    each = share_for_tensors(1 / processes, memory) * memory + CONTEXT_BYTES
    assert processes * each == pytest.approx(memory)


def test_a_fraction_without_room_beside_the_context_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Gpus(monkeypatch, are_there=True)
    with pytest.raises(UserError, match=r"0\.005 of a GPU .* of 80 GB .* 0\.65 GB that CUDA"):
        own_device(0.005)


def test_a_node_whose_torch_sees_no_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpus(monkeypatch, are_there=False)
    with pytest.raises(UserError, match=r"on node \S+ sees none; install a build for CUDA"):
        own_device(1)


def test_what_a_driver_has_decides_nothing() -> None:
    """Of a cluster with GPUs the head may have none. Only where a worker computes, and where a plan
    is for this machine, is torch asked for a GPU."""
    rooms = ("cluster", "trainers", "tuning", "serving")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    asking = {
        str(path.relative_to(ROOT))
        for path in files
        if re.search(r"cuda\.(is_available|device_count|current_device)", path.read_text("utf-8"))
    }
    assert asking == {"trainers/models/devices.py", "trainers/planning/hardware.py"}


def test_emulated_bf16_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says of a T4 that it supports bf16, and emulates it."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not multiplies_bf16(torch.device("cuda"))
