"""What a plan says of shipped recipes, before and after the data is there."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, BertConfig, LlamaConfig, T5Config

from cluster.cli import main
from cluster.errors import UserError
from cluster.recipe.loading import load, override, shipped
from cluster.runs import pipeline
from cluster.store.packages import package_folder
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.corpora.tokens.pack import write_arrow
from trainers.models.devices import CONTEXT_BYTES
from trainers.planning import hardware, synthetic_corpus
from trainers.planning import plan as planner
from trainers.planning.hardware import ACCELERATORS
from trainers.planning.measures import SHAPES, Measures, measure
from trainers.planning.plan import peak, plan
from trainers.planning.text import as_text
from trainers.tasks.chat.task import ChatTask

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
ADAPTED = """
name: adapted
corpora: {sources: {only: {path: only.jsonl}}}
finetune:
  task: chat
  base: base
  method: lora
  max_length: 32
  batch_size: 4
  micro_batch_size: 4
  workers: 1
  gpus_per_worker: 1
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
def test_every_shipped_recipe_has_a_plan(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(name, workspace=str(tmp_path))
    packages = {source.package for source in recipe.corpora.sources.values()}
    base = (recipe.finetune and recipe.finetune.base) or ""
    if (SHAPES / base / "config.json").is_file():  # a few layers of it
        config = AutoConfig.from_pretrained(SHAPES / base, num_hidden_layers=2)
        config.save_pretrained(tmp_path / base)
        monkeypatch.setattr("trainers.planning.measures.SHAPES", tmp_path)
    if base in shipped():
        pytest.skip(f"its base is what {base} made")
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
    assert "run `raymill run RECIPE --until shard` first" in said.err
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


@pytest.mark.parametrize(("has_bf16", "tflops"), [(True, 2), (False, 1)])
def test_this_machine_multiplies_in_what_it_trains_in(
    has_bf16: bool, tflops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {"bf16": 2e12, "fp32": 1e12}
    monkeypatch.setattr(hardware.flops, "measured_peak", lambda device, kind, _: peaks[kind])
    monkeypatch.setattr(hardware, "multiplies_bf16", lambda device: has_bf16)
    assert hardware.hardware(1).peak_tflops == tflops


def test_this_machine_is_shared_by_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.flops, "measured_peak", lambda *_: 1e12)
    one, two = (hardware.hardware(workers) for workers in (1, 2))
    assert two.memory_gb == one.memory_gb / 2
    assert two.peak_tflops == 0.5
    assert not two.is_gpu


@pytest.fixture
def adapted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a base that is a config alone."""
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    LlamaConfig(vocab_size=500, intermediate_size=64, **sizes).save_pretrained("base")
    (tmp_path / "only.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "adapted.yaml").write_text(ADAPTED)
    return load(tmp_path / "adapted.yaml", workspace=str(tmp_path / "mill"))


def tuned(recipe: Any, **overrides: Any) -> dict[str, Any]:
    keys = {f"finetune.{key}": value for key, value in overrides.items()}
    chosen = override(recipe, keys)
    return plan(chosen, Storage.at(recipe.workspace), A100, 0.5)["finetune"]


@pytest.mark.parametrize("method", ["lora", "p_tuning", "adapter"])
def test_an_adapter_alone_has_gradients_and_states(adapted: Any, method: str) -> None:
    planned = tuned(adapted, method=method)
    memory, trained = planned["stages"]["2"], planned["trained_parameters"]
    assert planned["method"] == method
    assert 0 < trained < planned["parameters"]
    assert memory["optimizer"] == 12 * trained
    assert memory["gradients"] <= 2 * trained
    assert memory["weights"] == 2 * (planned["parameters"] + trained)
    assert memory["host"] >= 4 * (planned["parameters"] + trained), "while it is built"


def test_the_averages_of_adalora_are_planned(adapted: Any) -> None:
    planned = tuned(adapted, method="adalora")
    averaged = measure(
        override(adapted, {"finetune.method": "adalora"}), "finetune", {}, "bf16", "cuda"
    ).averaged
    assert averaged == planned["trained_parameters"], "there is no head that is trained whole"
    buckets = 2 * averaged
    assert planned["stages"]["2"]["buffers"] == 8 * averaged + buckets


def test_packed_rows_are_planned_as_cpus_attend_to_them(adapted: Any) -> None:
    """By documents, but by masks where torch compiles."""
    recipe = override(adapted, {"finetune.max_length": 512, "finetune.gpus_per_worker": 0})
    by_documents, by_masks = (
        measure(override(recipe, {"finetune.compile": compiled}), "finetune", {}, "bf16", "cpu")
        for compiled in (False, True)
    )
    assert by_documents.activations(4).max() < by_masks.activations(4).max()


def test_workers_share_a_frozen_base_at_stage_3(adapted: Any) -> None:
    planned = tuned(adapted, workers=4, **{"zero.stage": 3})
    both = planned["parameters"] + planned["trained_parameters"]
    assert planned["stages"]["3"]["weights"] == pytest.approx(2 * both / 4, abs=4)


def test_of_a_base_in_four_bits_the_embeddings_are_not(adapted: Any) -> None:
    whole, rounded = tuned(adapted), tuned(adapted, method={"name": "lora", "base_bits": 4})
    layers = 4 * 32 * 32 + 3 * 32 * 64
    saved = whole["stages"]["2"]["weights"] - rounded["stages"]["2"]["weights"]
    assert saved == pytest.approx(layers * (2 - 4.127 / 8), abs=1)


@pytest.mark.parametrize(
    ("method", "served_by"),
    [
        ("full", "vllm_merged"),
        ("lora", "vllm_adapter"),
        ({"name": "lora", "merge": True}, "vllm_merged"),
        ({"name": "lora", "dora": True}, "transformers"),
        ("prompt", "transformers"),
    ],
)
def test_what_can_serve_a_model_is_known(adapted: Any, method: Any, served_by: str) -> None:
    settings = override(adapted, {"finetune.method": method}).finetune
    assert planner.served_by(settings, encodes_and_decodes=False) == served_by
    assert planner.served_by(settings, encodes_and_decodes=True) == "transformers"


def test_an_encoder_decoder_is_known_by_its_config(adapted: Any) -> None:
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2, "num_layers": 1}
    T5Config(vocab_size=500, decoder_start_token_id=0, **sizes).save_pretrained("base")
    planned = tuned(adapted, task="generate")
    assert planned["served_by"] == "transformers"
    assert "  served by raymill's endpoint, on Transformers alone" in as_text({"finetune": planned})


def test_the_steps_of_preference_are_planned_with_their_reference(adapted: Any) -> None:
    """Two sequences a row, in as many chunks as they take; without its adapter once more."""
    flops = {
        reference: measure(
            override(adapted, {"finetune.task": "prefer", "finetune.reference": reference}),
            *("finetune", {}, "bf16", "cuda"),
        ).flops_each
        for reference in ("scored", "adapter_off")
    }
    chat = measure(adapted, "finetune", {}, "bf16", "cuda").flops_each
    assert 1.8 * chat < flops["scored"] < 2.5 * chat
    assert flops["adapter_off"] == pytest.approx(1.5 * flops["scored"], rel=0.2)


def test_hours_follow_from_the_rows_that_there_are(adapted: Any) -> None:
    storage = Storage.at(adapted.workspace)
    before = tuned(adapted)
    assert "run `raymill run RECIPE --until render` first" in as_text({"finetune": before})
    (render,) = [one for one in pipeline.plan(adapted, storage) if one.stage.name == "render"]
    made = published(storage, render.artifact_id)
    lengths = [8, 24] * 8
    columns = {"input_ids": [[1] * size for size in lengths], "learned": [[True] * 8] * 16}
    table = pa.table(
        {name: pa.array(columns[name], kind) for name, kind in ChatTask.columns.items()}
    )
    write_arrow(table, made.path / "train.arrow")
    after = tuned(adapted)
    longest = measure(adapted, "finetune", {}, "bf16", "cuda").flops_each
    assert (after["samples"], after["steps"]) == (16, 4)
    assert after["flops"] == pytest.approx(16 * longest * 16 / 32)
    assert after["stages"] == before["stages"], "memory is that of rows as long as they can be"


def test_texts_are_as_long_as_they_can_be_until_there_is_their_tokenizer(
    adapted: Any, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    BertConfig(vocab_size=500, intermediate_size=64, **sizes).save_pretrained("base")
    (tmp_path / "only.jsonl").write_text('{"text": "a", "label": "b"}\n')
    recipe = override(adapted, {"finetune.task": "classify", "finetune.method": "full"})
    storage = Storage.at(recipe.workspace)
    (examples,) = [one for one in pipeline.plan(recipe, storage) if one.stage.name == "examples"]
    made = published(storage, examples.artifact_id, {"labels.json": '["b", "c"]'})
    rows = [{"text": f"{number}", "label": "b"} for number in range(8)]
    write_arrow(pa.Table.from_pylist(rows), made.path / "train.arrow")
    done = {"examples": made}
    assert measure(recipe, "finetune", done, "bf16", "cuda").usual_length == 1
    synthetic_corpus.tokenizer(500).save_pretrained("base")
    assert measure(recipe, "finetune", done, "bf16", "cuda").usual_length == 1 / 32


def test_a_base_is_a_model_of_the_workspace(adapted: Any) -> None:
    config = Path("base/config.json").read_text("utf-8")
    published(Storage.at(adapted.workspace), "model/first-finetune-00", {"config.json": config})
    assert tuned(adapted, base="first") == tuned(adapted)


def test_a_base_that_is_not_to_be_had_is_told_with_the_remedy(
    adapted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("We couldn't connect.\nCheck your connection.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(UserError) as raised:
        tuned(adapted, base="someone/llama")
    assert str(raised.value) == (
        "finetune.base: 'someone/llama' cannot be had: We couldn't connect. A plan needs no more "
        "of it than its config.json: put that into a folder, and --set finetune.base=FOLDER"
    )
