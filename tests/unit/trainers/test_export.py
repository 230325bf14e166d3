import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from cluster.artifacts import drafting
from cluster.storage import Storage
from tests.fakes import published
from trainers import export
from trainers.card import describe, read_card
from trainers.config.shape import Shape
from trainers.model import Start, build


def test_a_model_says_what_it_is_and_comes_from(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    corpus = published(storage, "corpus/demo-shard-00")
    with drafting(storage, "model/demo-finetune-00") as draft:
        describe(
            draft,
            {"shard": corpus},
            "classify",
            {"accuracy": 0.5},
            labels=["差", "好"],
            max_length=8,
        )
        with draft.folder() as folder:
            assert read_card(folder) == {
                "id": "model/demo-finetune-00",
                "task": "classify",
                "labels": ["差", "好"],
                "max_length": 8,
                "metrics": {"accuracy": 0.5},
                "lineage": {"shard": "corpus/demo-shard-00"},
            }
            card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n---\n# model/demo-finetune-00")
    assert "| accuracy | 0.5 |" in card
    assert "- shard: `corpus/demo-shard-00`" in card


def test_only_one_file_of_weights_is_in_memory(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(architecture="llama", hidden_size=32, layers=3, heads=2)
    model = build(Start(shape=shape), "causal_lm", tokenizer)
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
