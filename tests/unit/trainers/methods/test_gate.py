"""What a gate refuses of an adapter that was written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from cluster.errors import GateRefused
from tests.adapters import learned
from trainers.methods import gate
from trainers.methods.adapt import Adapted
from trainers.methods.gate import Probe
from trainers.methods.loading import WEIGHTS
from trainers.methods.record import RECORD
from trainers.methods.saving import write


def written(made: Adapted, place: Path) -> tuple[Probe, int]:
    weights = {name: weight.detach() for name, weight in made.trained.items()}
    write(made, made.base, weights, place)
    inputs = gate.inputs(made.model.config)
    with torch.no_grad():
        logits = made.model.eval()(**inputs).logits
    return Probe(inputs, logits), sum(weight.numel() for weight in weights.values())


def _empty(weights: dict[str, Tensor]) -> None:
    name = next(name for name in weights if "lora_A" in name)
    weights[name] = torch.empty(0)


def _infinite(weights: dict[str, Tensor]) -> None:
    weights[min(weights)][0] = torch.inf


def _headless(weights: dict[str, Tensor]) -> None:
    for name in [name for name in weights if "classifier" in name]:
        del weights[name]


def _layerless(weights: dict[str, Tensor]) -> None:
    del weights[next(name for name in weights if "lora_B" in name)]


def _other(weights: dict[str, Tensor]) -> None:
    for name, weight in weights.items():
        weights[name] = weight + 0.01


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_empty, "has an empty tensor, base_model"),
        (_infinite, "has numbers that are not finite in base_model"),
        (_headless, "lacks classifier, which was trained"),
        (_layerless, "numbers that were trained"),
        (_other, "read again gives other answers, off by"),
    ],
)
def test_what_is_not_what_was_trained_is_refused(
    folder: Path, tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], says: str
) -> None:
    probe, elements = written(learned(folder / "encoder", "encoder", "lora"), tmp_path)
    gate.check(tmp_path, probe, 1e-3, elements)
    weights = load_file(tmp_path / WEIGHTS)
    damage(weights)
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(GateRefused, match=rf"is not published: its lora adapter .*{says}"):
        gate.check(tmp_path, probe, 1e-3, elements)


def test_a_merge_that_gives_other_answers_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"name": "lora", "merge": True}
    probe, elements = written(learned(folder / "encoder", "encoder", method), tmp_path)
    load = gate.loading.load

    def damaged(*arguments: Any) -> Any:
        model = load(*arguments)
        with torch.no_grad():
            model.classifier.weight.mul_(1.1)
        return model

    monkeypatch.setattr(gate.loading, "load", damaged)
    with pytest.raises(GateRefused, match="merged gives other answers"):
        gate.check(tmp_path, probe, 1e-3, elements)
    assert (tmp_path / WEIGHTS).exists()


def test_what_the_base_has_no_weights_for_is_trained_whole(folder: Path, tmp_path: Path) -> None:
    """A base that was pretrained by masked LM has no pooler: LoRA beside random weights that are in
    no file would be lost."""
    made = learned(folder / "encoder", "encoder", "lora")
    assert made.whole == ["classifier", "bert.pooler.dense"]
    written(made, tmp_path)
    record = json.loads((tmp_path / RECORD).read_text("utf-8"))
    assert record["trained_whole"] == made.whole
    assert any("pooler" in name for name in load_file(tmp_path / WEIGHTS))


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("merge", [True, False])
def test_an_output_layer_that_the_base_lacks_is_trained_unless_it_is_the_embeddings(
    folder: Path, tmp_path: Path, is_tied: bool, merge: bool
) -> None:
    base = shutil.copytree(folder / "causal", tmp_path / "base")
    body = AutoModel.from_pretrained(base, tie_word_embeddings=is_tied)
    body.save_pretrained(base)
    made = learned(base, "causal", {"name": "lora", "merge": merge})
    assert made.whole == ([] if is_tied else ["lm_head"])
    probe, elements = written(made, tmp_path / "kept")
    gate.check(tmp_path / "kept", probe, 1e-4, elements)
    assert (tmp_path / "kept" / WEIGHTS).exists() != merge


def test_one_logit_that_a_lower_precision_has_elsewhere_is_no_other_answer() -> None:
    """The largest of a million differences says more of their number than of the model."""
    wanted = torch.linspace(-1, 1, 50_000).expand(2, 12, -1)
    found = wanted.clone()
    found[0, 3, 7] += 0.4
    assert gate.difference(found, wanted) < 0.001
    assert gate.difference(1.2 * wanted, wanted) == pytest.approx(0.2, rel=1e-3)
