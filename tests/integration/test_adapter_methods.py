"""Every method under every stage of ZeRO: what is saved is what was trained, read by Transformers
and PEFT, merged, resumed and trained further.

All trainings are in one pair of processes over gloo. Each goes past the gate, which holds what is
read and what is merged against the engine's own answers; and but for the first of a method each
goes on from the checkpoint of the one before, of another stage or of its own.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import AdaLoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file

from cluster.errors import UserError
from tests.adapters import KINDS, Toy, bases
from tests.integration import processes
from tests.integration.adapted import Case, trained
from trainers.methods import gate, loading
from trainers.methods.adapt import adapt, as_the_base
from trainers.methods.loading import WEIGHTS
from trainers.methods.record import RECORD, AdapterRecord

LORA: dict[str, Any] = {"name": "lora", "rank": 4}
MERGING: list[dict[str, Any]] = [
    {"name": "lora", "rslora": True, "lora_plus": 4},
    {"name": "lora", "dora": True},
    {"name": "adalora", "initial_rank": 6, "rank": 3, "every": 2},
    {"name": "ia3"},
]
IN_FRONT: list[dict[str, Any]] = [
    {"name": "prefix", "tokens": 3},
    {"name": "prompt", "tokens": 3},
    {"name": "p_tuning", "tokens": 3, "hidden_size": 8},
]
BOTTLENECK: dict[str, Any] = {"name": "adapter", "size": 4}
METHODS = [LORA, *MERGING, *IN_FRONT, BOTTLENECK]


def chain(
    kind: str, method: dict[str, Any], *stages: int, precision: str = "fp32", merges: bool = False
) -> list[Case]:
    """Trainings that go on from each other's checkpoints; the last one merges what it learned."""
    cases: list[Case] = []
    for number, stage in enumerate(stages, start=1):
        is_merged = merges and number == len(stages)
        made = {**method, "merge": True} if is_merged else method
        cases.append(Case(kind, made, stage, precision, cases[-1] if cases else None))
    return cases


def last_stage(method: dict[str, Any]) -> int:
    return 2 if method["name"] == "adalora" else 3


CASES = [
    *chain("encoder", LORA, 0, 0, 3, 3, merges=True),
    *[case for method in METHODS[1:] for case in chain("encoder", method, 0, last_stage(method))],
    *[
        case
        for method in METHODS
        for case in chain("causal", method, 1, 2, merges=method in MERGING)
    ],
    *[
        case
        for method in METHODS
        if method["name"] != "prefix"
        for case in chain("both", method, 0, last_stage(method))
    ],
    # fp32 adapters beside a base in bf16 (deepspeedai/DeepSpeed#8072).
    *chain("causal", LORA, 0, 1, 2, 3, precision="bf16"),
    *chain("causal", {**LORA, "base_bits": 4}, 2, 2),
]
MERGED = [case for case in CASES if "merge" in case.method]
ADAPTERS = [case for case in CASES if case not in MERGED]
FURTHER = Case("encoder", {"name": "ia3"}, 2, base=CASES[2])
"""Of an adapter as the base."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    bases(folder)
    processes.run(trained, ([*CASES, FURTHER], folder), 2)
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


@pytest.mark.parametrize("case", ADAPTERS, ids=lambda case: case.name)
def test_it_passes_the_gate_and_its_file_is_whole(case: Case, folder: Path) -> None:
    weights = load_file(place(case, folder) / WEIGHTS)
    assert weights
    assert all(weight.numel() and weight.dtype == torch.float32 for weight in weights.values())
    heads = {name for name in weights if "classifier" in name}
    assert len(heads) == (2 if case.kind == "encoder" else 0)


@pytest.mark.parametrize(
    "case", [case for case in ADAPTERS if case.goes_on], ids=lambda case: case.name
)
def test_it_goes_on_as_if_nothing_had_changed(case: Case, folder: Path) -> None:
    """Under the same stage to the bit."""
    assert case.goes_on is not None
    is_same = case.goes_on.stage == case.stage
    expected = load_file(place(case.goes_on if is_same else case.first, folder) / WEIGHTS)
    found = load_file(place(case, folder) / WEIGHTS)
    assert found.keys() == expected.keys()
    # Where a gradient is next to nothing, Adam steps by its sign: so not each element by itself.
    off, least = (5e-3, 1e-4) if case.precision == "fp32" else (0.0, 0.02)
    for name, weight in found.items():
        wanted = expected[name]
        tolerance = 0.0 if is_same else max(least, off * float(wanted.abs().mean()))
        assert float((weight - wanted).abs().mean()) <= tolerance, name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_checkpoint_has_what_is_trained_alone(case: Case, folder: Path) -> None:
    """Also where the output layer, which is frozen, is tied to the embeddings."""
    place(case, folder)
    names = set()
    for part in (folder / case.draft(folder).work).glob("step-*/*.safetensors"):
        with safe_open(part, "pt") as file:
            names |= {key.split(":", 2)[2] for key in file.keys()}  # noqa: SIM118
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
    "case",
    [case for case in ADAPTERS if case.method in IN_FRONT and not case.goes_on],
    ids=lambda case: case.name,
)
def test_raymill_reads_virtual_tokens_as_peft_does(case: Case, folder: Path) -> None:
    """Of the other methods the gate holds both equal."""
    kept = place(case, folder)
    head = KINDS[case.kind][-1]
    kind = getattr(transformers, head)
    base = kind.from_pretrained(
        folder / case.kind, config=transformers.AutoConfig.from_pretrained(kept)
    )
    ours = logits(loading.load(kept, head))
    theirs = logits(PeftModel.from_pretrained(base, str(kept)))
    if theirs.ndim == 3:  # the virtual tokens of PEFT's own answer
        theirs = theirs[:, -ours.shape[1] :]
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("case", MERGED, ids=lambda case: case.name)
def test_what_is_merged_is_a_whole_model_with_the_same_answers(case: Case, folder: Path) -> None:
    kept, head = place(case, folder), KINDS[case.kind][-1]
    assert not (kept / RECORD).exists()
    assert not [*kept.glob("adapter*")]
    model, loaded = getattr(transformers, head).from_pretrained(kept, output_loading_info=True)
    assert not (loaded["missing_keys"] | loaded["unexpected_keys"])
    assert case.goes_on is not None
    beside = logits(loading.load(place(case.goes_on, folder), head))
    assert gate.difference(logits(model), beside) < (1e-5 if case.stage == 3 else 1e-3)


@pytest.mark.parametrize(
    "case",
    [case for case in ADAPTERS if case.method["name"] == "adalora"],
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


def test_what_was_trained_further_is_an_adapter_of_its_base_with_the_first(folder: Path) -> None:
    assert load_file(place(FURTHER, folder) / WEIGHTS)
    assert AdapterRecord.read(place(FURTHER, folder)).base == str(place(CASES[2], folder))


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
    [case for case in ADAPTERS if not case.goes_on and "base_bits" not in case.method],
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
