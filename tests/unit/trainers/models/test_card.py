from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.store.artifacts import BASE, Artifact, drafting
from cluster.store.storage import Storage
from tests.adapters import bases, learned
from tests.fakes import published
from trainers.methods import gate, loading
from trainers.methods.record import RECORD
from trainers.methods.saving import write
from trainers.models.card import describe, read_card


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


def card_of_adapter(method: str, tmp_path: Path, base_files: Mapping[str, str]) -> Artifact:
    """Published, of a base that is a model with these files of the same workspace."""
    bases(tmp_path / "bases")
    storage = Storage.at(str(tmp_path / "mill"))
    base = published(storage, "model/demo-finetune-00", base_files)
    made = learned(tmp_path / "bases" / "causal", "causal", method)
    with drafting(storage, "model/demo-finetune-01") as draft:
        with draft.folder() as folder:
            write(
                made, made.base, {name: one.detach() for name, one in made.trained.items()}, folder
            )
        describe(draft, {BASE: base}, "chat", {"perplexity": 9.5})
        return draft.publish(recipe="demo", stage="finetune", parents={}, inputs={}, metrics={})


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_the_code_in_the_card_of_an_adapter_loads_it(method: str, tmp_path: Path) -> None:
    folder = card_of_adapter(method, tmp_path, {}).path
    _, code, rest = (folder / "README.md").read_text("utf-8").split("```")
    names: dict[str, Any] = {"FOLDER": str(folder)}
    exec(code.removeprefix("python"), names)
    expected = loading.load(folder, "AutoModelForCausalLM").eval()
    probe = gate.inputs(expected.config)
    with torch.no_grad():
        found = names["model"].eval()(**probe).logits
        assert torch.allclose(found, expected(**probe).logits, atol=1e-5)
    assert ("merge: true" in rest) == (method == "lora")


def test_the_card_of_an_adapter_of_an_adapter_says_how_to_load_both(tmp_path: Path) -> None:
    card = (card_of_adapter("lora", tmp_path, {RECORD: "{}"}).path / "README.md").read_text("utf-8")
    assert "an adapter itself. Load that as its own card says" in card
    assert "PeftModel.from_pretrained(model.merge_and_unload(), FOLDER)" in card
