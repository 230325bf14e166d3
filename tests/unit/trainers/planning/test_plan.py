"""What a plan says of shipped recipes, before and after the data is there."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cluster.cli import main
from cluster.errors import UserError
from cluster.recipe.loading import load, override, shipped
from cluster.runs import pipeline
from cluster.store.packages import package_folder
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.models.devices import CONTEXT_BYTES
from trainers.planning import hardware, synthetic_corpus
from trainers.planning.hardware import ACCELERATORS
from trainers.planning.measures import Measures, measure
from trainers.planning.plan import peak, plan
from trainers.planning.text import as_text

A100 = ("A100-80GB", None, None, None)
HERE = (None, None, None, None)
LLAMA = """
name: demo
corpora:
  sources: {only: {path: only.txt}}
  sequence_length: 64
  tokenizer: {vocabulary_size: 1000}
pretrain:
  objective: causal_lm
  model: {architecture: llama, hidden_size: 64, layers: 2, heads: 2, max_positions: 64}
  batch_size: 32
  micro_batch_size: 4
  workers: 2
  epochs: 2
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only.txt").write_text("".join(f"text {number}\n" for number in range(500)))
    (tmp_path / "demo.yaml").write_text(LLAMA)
    return load(tmp_path / "demo.yaml", workspace=str(tmp_path / "mill"))


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> Measures:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "demo.yaml").write_text(LLAMA)
    return measure(load(folder / "demo.yaml"), "pretrain", {}, "bf16", "cpu")


def section(recipe: Any, *overrides: str) -> dict[str, Any]:
    return plan(recipe, Storage.at(recipe.workspace), A100, 0.5)["pretrain"]


def test_what_it_does_not_know_is_refused(recipe: Any) -> None:
    cut = recipe.pretrain.model_copy(update={"tensor_parallel": 2})
    with pytest.raises(UserError, match="plan does not know yet what a worker holds of layers"):
        section(recipe.model_copy(update={"pretrain": cut}))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_has_a_plan(name: str, tmp_path: Path) -> None:
    recipe = load(name, workspace=str(tmp_path))
    packages = {source.package for source in recipe.corpora.sources.values()}
    base = (recipe.finetune and recipe.finetune.base) or ""
    if base.startswith("package:"):
        packages.add(base.removeprefix("package:").partition("/")[0])
    absent = [one for one in packages if one is not None and package_folder(one) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(sorted(absent))}")
    found = plan(recipe, Storage.at(recipe.workspace), A100, 0.5)
    assert found.keys() == {"pretrain", "finetune"} & recipe.model_fields_set
    for planned in found.values():
        assert set(planned["stages"]) == {"0", "1", "2", "3"}
        assert all(memory["fits"] for memory in planned["stages"].values())


def test_steps_hours_and_cost_follow_from_the_corpus(recipe: Any, tmp_path: Path) -> None:
    before = section(recipe)
    assert before["steps"] is before["hours"] is before["cost"] is None
    storage = Storage.at(recipe.workspace)
    (shard,) = [item for item in pipeline.plan(recipe, storage) if item.stage.name == "shard"]
    made = synthetic_corpus.corpus(tmp_path / "other", 1000, 64, rows=100)
    files = {name: (made.path / name).read_bytes() for name in made.manifest.files}
    corpus = published(storage, shard.artifact_id)
    for name, content in files.items():
        (corpus.path / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus.path / name).write_bytes(content)
    after = section(recipe)
    assert after["steps"] == 7  # of 2 x 100 sequences, 32 each
    weights = after["parameters"] - 5 * 64
    assert after["flops"] == pytest.approx(7 * 32 * 64 * 6 * weights, rel=0.2)
    expected = after["flops"] / (0.5 * 312e12 * 2) / 3600
    assert after["hours"] == pytest.approx(expected)
    assert after["cost"] == pytest.approx(expected * 2 * ACCELERATORS["A100-80GB"].price)


def test_the_largest_micro_batch_is_the_largest_that_fits(recipe: Any, measures: Measures) -> None:
    recipe = override(recipe, {"pretrain.precision": "bf16"})
    settings = recipe.pretrain
    peaks = {
        size: peak(settings, measures, "bf16", size, on_gpu=False)[1].total
        for size in (1, 2, 3, 4, 6, 8, 16)  # 16 sequences a worker, in equal parts
    }
    assert sorted(peaks.values()) == list(peaks.values())
    given = (None, (peaks[6] + peaks[8]) / 2 / 1e9, None, None)
    found = plan(recipe, Storage.at(recipe.workspace), given, 0.5)["pretrain"]
    assert found["precision"] == "bf16"
    assert found["stages"]["2"]["largest_micro_batch"] == 6


def test_stages_that_do_not_go_with_the_recipe_are_left_out(recipe: Any) -> None:
    found = section(override(recipe, {"pretrain.optimizer": "adafactor", "pretrain.zero.stage": 0}))
    assert list(found["stages"]) == ["0"]
    found = section(override(recipe, {"pretrain.zero.offload_optimizer": "cpu"}))
    assert list(found["stages"]) == ["1", "2", "3"]


def test_the_command_answers_without_ray(
    recipe: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = ["demo.yaml", "--workspace", recipe.workspace, "--accelerator"]
    assert main.main(["plan", *chosen, "H100", "--json"]) == 0
    said = capfd.readouterr()
    answer = json.loads(said.out)
    assert answer["pretrain"]["hardware"]["memory_gb"] == 80
    assert "fits, as it is with zero.stage: 2" in said.err
    assert "run `raymill shard` first" in said.err
    assert main.main(["plan", *chosen, "H10"]) == 2
    assert "--accelerator H10: known are" in capfd.readouterr().err
    assert main.main(["plan", *chosen, "H100", "--mfu", "40"]) == 2


def test_auto_is_all_of_this_machine(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    overrides = {"pretrain.workers": "auto"}
    planned = plan(override(recipe, overrides), Storage.at(recipe.workspace), HERE, 0.5)["pretrain"]
    assert (planned["workers"], planned["cpus_per_worker"]) == (1, 6)
    fewer = override(recipe, {**overrides, "cluster.cpus": 2})
    assert plan(fewer, Storage.at(recipe.workspace), HERE, 0.5)["pretrain"]["cpus_per_worker"] == 2
    on_gpus = plan(fewer, Storage.at(recipe.workspace), A100, 0.5)["pretrain"]
    assert on_gpus["workers"] == 1, "of how many is not known"
    assert "1 worker of 2 CPUs; a step is" in as_text(
        {"pretrain": {**planned, "cpus_per_worker": 2}}
    )


def test_a_plan_of_gpus_tells_which_have_room(recipe: Any) -> None:
    storage = Storage.at(recipe.workspace)
    recipe = override(recipe, {"pretrain.gpus_per_worker": 1, "pretrain.workers": 1})
    planned = plan(recipe, storage, A100, 0.5)
    peak = planned["pretrain"]["stages"]["2"]["peak"]
    assert planned["pretrain"]["room"] == list(ACCELERATORS), f"{peak} bytes fit everywhere"
    assert "GPUs with room for it as it is: T4, L4, " in as_text(planned)
    half = override(recipe, {"pretrain.gpus_per_worker": 0.5})
    planned = plan(half, storage, A100, 0.5)
    share = planned["pretrain"]["hardware"]
    assert (share["memory_gb"], share["peak_tflops"], share["price"]) == (40, 156, 0.75)
    assert "1 worker of 1 CPU and 0.5 GPU; a step is" in as_text(planned)
    assert "at its worst moment, of 40 (0.5 of A100-80GB):" in as_text(planned)


def test_a_section_without_gpus_is_planned_on_cpus_beside_one_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware.flops, "measured_peak", lambda *_: 1e12)
    recipe = load("quickstart", ["finetune.gpus_per_worker=1"], workspace=str(tmp_path))
    found = plan(recipe, Storage.at(recipe.workspace), A100, 0.5)
    names = {section: planned["hardware"]["name"] for section, planned in found.items()}
    assert names == {"pretrain": "cpu", "finetune": "A100-80GB"}
    assert found["pretrain"]["precision"] in ("bf16", "fp32")


def test_every_process_on_a_gpu_has_a_context_of_its_own(recipe: Any) -> None:
    tenth = override(recipe, {"pretrain.gpus_per_worker": 0.1, "pretrain.workers": 1})
    memory = section(tenth)["stages"]["2"]
    assert memory["framework"] == CONTEXT_BYTES
    room = (memory["peak"] / 1e9 - 0.1) / 0.1, None, None
    small = plan(tenth, Storage.at(recipe.workspace), ("L4", *room), 0.5)["pretrain"]
    assert not small["stages"]["2"]["fits"], "0.1 GB of it is missing, less than the context"


def test_a_plan_computes_in_what_the_gpu_has(recipe: Any) -> None:
    storage, t4 = Storage.at(recipe.workspace), ("T4", None, None, None)
    assert plan(recipe, storage, t4, 0.5)["pretrain"]["precision"] == "fp16"
    whole = override(recipe, {"pretrain.zero.stage": 0})
    assert plan(whole, storage, t4, 0.5)["pretrain"]["precision"] == "fp32"


def test_gpus_are_not_planned_on_this_machines_cpus(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_gpus = override(recipe, {"pretrain.gpus_per_worker": 1})
    with pytest.raises(UserError, match="--accelerator: the recipe trains on GPUs, and this mach"):
        plan(on_gpus, Storage.at(recipe.workspace), HERE, 0.5)
    here = SimpleNamespace(name="NVIDIA L4", total_memory=23e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: here)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    found = hardware.hardware(1, gpus=1)
    assert (found.name, found.memory_gb, found.peak_tflops) == ("NVIDIA L4", 23, 121)


def test_this_machine_is_shared_by_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.flops, "measured_peak", lambda *_: 1e12)
    one, two = (hardware.hardware(workers) for workers in (1, 2))
    assert two.memory_gb == one.memory_gb / 2
    assert two.peak_tflops == 0.5
    assert not two.is_gpu
