"""Every method under every stage of ZeRO: what is saved is what was trained, read by Transformers
and PEFT, merged, resumed and trained further.

All trainings are in one pair of processes over gloo. Each goes past the gate, which holds what is
read and what is merged against the engine's own answers.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import AdaLoraConfig, PeftModel
from safetensors.torch import load_file

from cluster.errors import UserError
from tests.adapters import KINDS, Toy, bases
from tests.integration import processes
from tests.integration.adapted import Case, trained
from trainers.methods import gate, loading
from trainers.methods.adapt import adapt, as_the_base
from trainers.methods.loading import RECORD, WEIGHTS

ENCODER: list[dict[str, Any]] = [
    {"name": "lora", "rank": 4},
    {"name": "lora", "rslora": True, "lora_plus": 16},
    {"name": "lora", "dora": True},
    {"name": "adalora", "initial_rank": 6, "rank": 3, "every": 2},
    {"name": "prefix", "tokens": 3},
    {"name": "prompt", "tokens": 3},
    {"name": "p_tuning", "tokens": 3, "hidden_size": 8},
    {"name": "ia3"},
    {"name": "adapter", "size": 4},
]
CAUSAL: list[dict[str, Any]] = [
    {"name": "lora", "rank": 4},
    {"name": "prefix", "tokens": 3},
    {"name": "prompt", "tokens": 3},
    {"name": "adapter", "size": 4},
]
BOTH: list[dict[str, Any]] = [
    {"name": "lora", "rank": 4},
    {"name": "prompt", "tokens": 3},
    {"name": "p_tuning", "tokens": 3, "hidden_size": 8},
]
STAGES = (0, 1, 2, 3)


def last_stage(method: dict[str, Any]) -> int:
    return 2 if method["name"] == "adalora" else 3


CASES = [
    *[Case("encoder", ENCODER[0], stage) for stage in STAGES],
    *[
        Case("encoder", method, stage)
        for method in ENCODER[1:]
        for stage in (0, last_stage(method))
    ],
    *[Case("causal", method, stage) for method in CAUSAL for stage in (0, 3)],
    *[Case("both", method, stage) for method in BOTH for stage in (0, 3)],
    # fp32 adapters beside a base in bf16 (deepspeedai/DeepSpeed#8072).
    *[Case("causal", CAUSAL[0], stage, "bf16") for stage in STAGES],
]
RESUMED = [
    *[Case("encoder", ENCODER[0], stage, resumes=True) for stage in STAGES],
    *[Case("encoder", method, last_stage(method), resumes=True) for method in ENCODER[1:]],
    Case("causal", CAUSAL[0], 0, "bf16", resumes=True),
]
TO_MERGE = [
    Case("causal", CAUSAL[0], 3),
    *[Case("encoder", method, last_stage(method)) for method in (*ENCODER[1:4], ENCODER[7])],
]
MERGED = [Case(one.kind, {**one.method, "merge": True}, one.stage) for one in TO_MERGE]
FURTHER = [Case("encoder", {"name": "ia3"}, 2, base=CASES[2])]
"""Of an adapter as the base."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    bases(folder)
    cases = [*CASES, *RESUMED, *MERGED, *FURTHER]
    processes.run(trained, (cases, folder), 2)
    return folder


def place(case: Case, folder: Path) -> Path:
    """Where a case has left its model. Fails with what its processes raised."""
    raised = [path.read_text("utf-8") for path in sorted(folder.glob(f"{case.name}.*.error"))]
    assert not raised, raised[0]
    return folder / case.draft(folder).place


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model.eval()(**gate.inputs(model.config)).logits
    return answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_passes_the_gate_and_its_file_is_whole(case: Case, folder: Path) -> None:
    weights = load_file(place(case, folder) / WEIGHTS)
    assert weights
    assert all(weight.numel() and weight.dtype == torch.float32 for weight in weights.values())
    heads = {name for name in weights if "classifier" in name}
    assert len(heads) == (2 if case.kind == "encoder" else 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stage_of_zero_does_not_change_what_is_learned(case: Case, folder: Path) -> None:
    keys = case.kind, case.method, case.precision
    first = next(one for one in CASES if (one.kind, one.method, one.precision) == keys)
    expected = load_file(place(first, folder) / WEIGHTS)
    found = load_file(place(case, folder) / WEIGHTS)
    assert found.keys() == expected.keys()
    # Where a gradient is next to nothing, Adam steps by its sign: so not each element by itself.
    off, least = (5e-3, 1e-4) if case.precision == "fp32" else (0.0, 0.02)
    for name, weight in found.items():
        wanted = expected[name]
        tolerance = max(least, off * float(wanted.abs().mean()))
        assert float((weight - wanted).abs().mean()) < tolerance, name


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_a_training_that_was_stopped_ends_as_one_that_was_not(case: Case, folder: Path) -> None:
    whole = Case(case.kind, case.method, case.stage, case.precision)
    expected = load_file(place(whole, folder) / WEIGHTS)
    found = load_file(place(case, folder) / WEIGHTS)
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_a_checkpoint_has_what_is_trained_alone(case: Case, folder: Path) -> None:
    """Also where the output layer, which is frozen, is tied to the embeddings."""
    place(case, folder)
    names = (folder / f"{case.name}.checkpoint").read_text("utf-8").splitlines()
    frozen = (
        "base_layer",
        "original_module",
        "embed_tokens",
        "embeddings.",
        "lm_head",
        "LayerNorm",
        "norm.weight",
    )
    assert names
    assert not [name for name in names if any(part in name for part in frozen)], names


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.method["name"] != "adapter"], ids=lambda case: case.name
)
def test_raymill_reads_it_as_peft_does(case: Case, folder: Path) -> None:
    kept = place(case, folder)
    head = KINDS[case.kind][-1]
    kind = getattr(transformers, head)
    base = kind.from_pretrained(
        folder / case.kind, config=transformers.AutoConfig.from_pretrained(kept)
    )
    theirs = logits(PeftModel.from_pretrained(base, str(kept)))
    ours = logits(loading.load(kept, head))
    if theirs.ndim == 3:  # the virtual tokens of PEFT's own answer
        theirs = theirs[:, -ours.shape[1] :]
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("beside", "merged"), zip(TO_MERGE, MERGED, strict=True), ids=lambda case: case.name
)
def test_what_is_merged_is_a_whole_model_with_the_same_answers(
    beside: Case, merged: Case, folder: Path
) -> None:
    kept, head = place(merged, folder), KINDS[merged.kind][-1]
    assert not (kept / RECORD).exists()
    assert not [*kept.glob("adapter*")]
    model, loaded = getattr(transformers, head).from_pretrained(kept, output_loading_info=True)
    assert not (loaded["missing_keys"] | loaded["unexpected_keys"])
    assert torch.allclose(
        logits(model), logits(loading.load(place(beside, folder), head)), atol=1e-5
    )


@pytest.mark.parametrize(
    "case",
    [case for case in (*CASES, *RESUMED) if case.method["name"] == "adalora"],
    ids=lambda case: case.name,
)
def test_the_budget_of_adalora_holds_to_the_end(case: Case, folder: Path) -> None:
    """On average as many ranks of each weight as the recipe says, in the file and as it is read."""
    kept = place(case, folder)
    values = {
        name: weight for name, weight in load_file(kept / WEIGHTS).items() if "lora_E" in name
    }
    assert sum(len(value) for value in values.values()) == case.method["rank"] * len(values)
    assert all(bool((value != 0).all()) for value in values.values())
    ranks = {len(value) for value in values.values()}
    assert len(ranks) > 1, "weights have ranks of their own"
    config = AdaLoraConfig.from_pretrained(kept)
    assert sum(map(sum, config.rank_pattern.values())) == case.method["rank"] * len(values)


def test_an_adapter_of_another_base_is_refused_by_its_hash(folder: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(place(CASES[0], folder), tmp_path / "kept")
    other = shutil.copytree(folder / "encoder", tmp_path / "other")
    record = (kept / RECORD).read_text("utf-8")
    (kept / RECORD).write_text(record.replace(str(folder / "encoder"), str(other)), "utf-8")
    loading.load(kept, "AutoModelForSequenceClassification")
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(UserError, match=r"is an adapter of another base: model\.safetensors in"):
        loading.load(kept, "AutoModelForSequenceClassification")
    shutil.rmtree(other)
    with pytest.raises(UserError, match="which is not there; copy that there"):
        loading.load(kept, "AutoModelForSequenceClassification")


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.stage == 0 and case.precision == "fp32"],
    ids=lambda case: case.name,
)
def test_without_its_adapter_a_model_is_its_base(case: Case, folder: Path) -> None:
    """Also its head (unslothai/unsloth-zoo#832), and without dropout."""
    torch.manual_seed(0)
    base = str(folder / case.kind)
    model = Toy(base, base, case.kind).model()
    before = logits(model)
    assert case.settings.adapter is not None
    adapted = adapt(model, case.settings.adapter)
    with torch.no_grad():
        for weight in adapted.trained.values():
            weight.add_(torch.rand_like(weight))
    model.train()
    with as_the_base(model):
        reference = model(**gate.inputs(model.config)).logits
    assert torch.equal(reference, before)
    assert model.training
    assert not torch.allclose(logits(model), before)
    trained_again = {name for name, one in model.named_parameters() if one.requires_grad}
    assert trained_again == adapted.trained.keys()
