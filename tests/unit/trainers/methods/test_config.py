"""The key `method` of a fine-tuning, before any model is there."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load, override
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.methods.config import Full, Lora, served_by
from trainers.tasks.classify.spec import Classify

NAMES = ("full", "lora", "adalora", "prefix", "prompt", "p_tuning", "ia3", "adapter")


def section(method: Any, **keys: Any) -> Classify:
    return Classify.model_validate({"base": "some/model", "method": method, **keys})


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_a_section_with_its_defaults(name: str) -> None:
    assert section(name).method == section({"name": name}).method
    assert section(name).method.name == name
    assert (section(name).adapter is None) == (name == "full")


def test_lora_adapts_all_linear_layers_by_default() -> None:
    method = section("lora").method
    assert isinstance(method, Lora)
    found = method.targets, method.rank, method.alpha, method.dropout
    assert found == ("all-linear", 16, 32, 0.05)


def test_the_learning_rate_suits_the_method_unless_it_is_given() -> None:
    assert Classify(base="some/model").learning_rate == Full.learning_rate
    assert section("lora").learning_rate == 10 * Full.learning_rate
    assert section("lora", learning_rate=0.01).learning_rate == 0.01


def test_a_trial_with_another_method_has_its_learning_rate(tmp_path: Any) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: demo\ncorpora: {sources: {a: {path: a.csv}}}\n"
        "finetune: {base: some/model, method: lora}\n"
    )
    trial = override(load(path), {"finetune.method": "ia3"})
    assert trial.finetune.learning_rate == trial.finetune.method.learning_rate == 3e-3
    assert override(load(path), {"finetune.method.rank": 4}).finetune.method.rank == 4


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("loraa", r"method\.name: must be full or lora or .*, found 'loraa'; did you mean 'lora'"),
        ("{name: lora, ranks: 3}", r"method\.ranks: unknown key .*did you mean 'rank'"),
        ("{name: lora, tokens: 3}", r"method\.tokens: .*; another method has it, this one alpha"),
        ("{name: prefix, merge: true}", r"method\.merge: .*; another method has it, this one"),
        ("{name: adalora, initial_rank: 2}", r"method\.initial_rank: 2 is not over rank = 16"),
        (
            "{name: lora, merge: true, base_bits: 4}",
            r"method\.merge: true cannot be with base_bits",
        ),
    ],
)
def test_mistakes_are_told_with_the_key_and_the_remedy(
    tmp_path: Any, method: str, says: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: demo\nfinetune:\n  base: some/model\n  method: {method}\n")
    with pytest.raises(RecipeError, match=rf"r.yaml:4: finetune\.{says}"):
        load(path)


@pytest.mark.parametrize(
    ("method", "keys", "says"),
    [
        ("adalora", {"zero": {"stage": 3}}, "adalora needs zero.stage: 0, 1 or 2, found 3"),
        (
            {"name": "lora", "base_bits": 4},
            {"zero": {"stage": 3}},
            "base_bits = 4 needs zero.stage: 0, 1 or 2, found 3",
        ),
        (
            "prefix",
            {"activation_checkpointing": True},
            "prefix needs activation_checkpointing: false, found true",
        ),
        (
            {"name": "lora", "lora_plus": 16},
            {"optimizer": "muon", "zero": {"stage": 0}},
            "lora_plus needs optimizer: adamw or lion, found muon",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_refused(method: Any, keys: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        section(method, **keys)


def test_a_rounded_base_needs_what_rounds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"text {number},{label}" for number in range(20) for label in ("good", "bad")]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: demo\ncorpora: {{sources: {{a: {{path: {tmp_path}/a.csv}}}}}}\n"
        "finetune:\n  base: some/model\n  method: {name: lora, base_bits: 4}\n"
    )
    load(path, check_files=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    says = r"r.yaml:5: finetune\.method\.base_bits: 4 needs bitsandbytes; pip install 'raymill\["
    with pytest.raises(RecipeError, match=says):
        load(path, check_files=True)


def test_an_adapter_of_random_weights_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: demo\ncorpora: {sources: {a: {path: a.csv}}}\npretrain: {model: {}}\n"
        "finetune: {method: lora, evaluation: {without_pretraining: true}}\n"
    )
    with pytest.raises(RecipeError, match="without_pretraining: needs method: full, found lora"):
        load(path)


def test_rates_at_which_a_method_hardly_learns_are_told() -> None:
    def told(name: str, rate: float) -> list[str]:
        adapter = section(name, learning_rate=rate).adapter
        assert adapter is not None
        return [*adapter.advice(rate)]

    assert told("lora", 1e-3) == []
    assert told("prefix", 1e-2) == []
    assert told("adalora", 5e-3) == []
    assert "thousands of steps at learning_rate = 0.001" in told("adalora", 1e-3)[0]
    assert "hardly learns at learning_rate = 5e-05" in told("prefix", 5e-5)[0]
    assert "stays far behind full fine-tuning" in told("prompt", 3e-2)[0]


def test_what_cannot_become_a_part_of_its_weights_is_no_base(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    for number, method in enumerate(("prefix", "adapter", "lora", "full")):
        inputs = {"finetune": section(method).identity()}
        base = published(storage, f"model/made-finetune-{number}", inputs=inputs)
        if method in ("lora", "full"):
            section("prefix").refuse_base(base)
            continue
        with pytest.raises(UserError, match=rf"{base.id} is a model with {method}, which cannot"):
            section("lora").refuse_base(base)


def test_vllm_takes_plain_lora_as_an_adapter() -> None:
    expected = {
        "full": "vllm_merged",
        "lora": "vllm_adapter",
        "adalora": "transformers",
        "prompt": "transformers",
    }
    assert {name: served_by(section(name).method) for name in expected} == expected
    assert served_by(section({"name": "lora", "dora": True}).method) == "transformers"
    assert served_by(section({"name": "adalora", "merge": True}).method) == "vllm_merged"
    assert section("lora").served_by == "encoder"
