import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from trainers.models import export
from trainers.models.build import Start, build
from trainers.models.shape import Shape


def test_only_one_file_of_weights_is_in_memory(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(architecture="llama", hidden_size=32, layers=3, heads=2)
    model = build(Start(shape=shape), "AutoModelForCausalLM", tokenizer)
    engine = SimpleNamespace(zero_optimization_stage=lambda: 0, optimizer=None)
    monkeypatch.setattr(export, "FILE_BYTES", 40_000)
    held: list[list[weakref.ref[Tensor]]] = []

    def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        assert not any(reference() is not None for file in held for reference in file)
        held.append([weakref.ref(tensor) for tensor in tensors.values()])
        save_file(tensors, path, metadata)

    monkeypatch.setattr(export, "save_file", save)
    export._write_weights(engine, model, tmp_path)
    assert len(held) > 3
    model.config.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
