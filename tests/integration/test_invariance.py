"""The gradient of a global batch is the same however it is shared out: over workers, micro-batches,
packed rows, ZeRO's stages, offload, and with activations that are computed again.

One step by the gradient alone, at a learning rate of 1, moves each weight by its gradient.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.store.storage import Storage
from tests.fakes import TEXTS, published
from tests.integration.worlds import SEED, Case, Weights, distance, initial, trained
from tests.packed import corpus_of
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.pack import pack_documents, write_arrow
from trainers.corpora.tokens.tokenizer import load
from trainers.corpora.tokens.tokenizer import train as train_tokenizer
from trainers.engine.training_config import Training
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.generate.spec import Generate
from trainers.tasks.generate.task import EncoderDecoderTask
from trainers.tasks.prefer.spec import Prefer
from trainers.tasks.prefer.task import PreferTask
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.config import Pretrain
from trainers.tasks.pretraining.masked_lm import MaskedLM
from trainers.tasks.task import IGNORED, Batch, Task

TOLERANCE = 1e-5
"""Of the largest gradient."""
CUT = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""ZeRO-3 leaves small parameters whole, and here all are small."""
STAGES: dict[str, dict[str, Any]] = {
    "zero-1": {"zero": {"stage": 1}},
    "zero-2": {"zero": {"stage": 2}},
    "zero-3": {"zero": {"stage": 3}, "deepspeed": CUT},
    "zero-1-offload": {"zero": {"stage": 1, "offload_optimizer": "cpu"}},
    "zero-2-offload": {"zero": {"stage": 2, "offload_optimizer": "cpu"}},
    "zero-3-offload": {
        "zero": {"stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
        "deepspeed": CUT,
    },
    "recompute-zero-3": {
        "activation_checkpointing": True,
        "zero": {"stage": 3},
        "deepspeed": CUT,
    },
}
STAGES_BY_TASK = {
    "causal-32": [stage for stage in STAGES if stage != "zero-2"],
    "masked": ["zero-3"],
    "classify": ["recompute-zero-3"],
    "chat": ["zero-3"],
    "written": ["zero-3"],
    "prefer": ["zero-3"],
}
PARALLEL = [
    ("causal-32", "sequence_parallel", "zero-1"),
    ("causal-32", "sequence_parallel", "recompute-zero-3"),
    ("grouped", "sequence_parallel", "zero-2"),
    ("causal-32", "tensor_parallel", "zero-1"),
    ("causal-32", "tensor_parallel", "recompute-zero-3"),
    ("paired", "tensor_parallel", "zero-2"),
]
"""Tasks of two workers that share each sequence, or each layer."""
CLIPPED = [*(("", stage) for stage in range(4)), ("sequence_parallel", 3), ("tensor_parallel", 1)]
"""What two workers share, and ZeRO's stage."""
OPTIMIZERS = [*(("adamw", stage) for stage in range(4)), ("lion", 3), ("adafactor", 0), ("muon", 0)]
RESUMED: dict[str, dict[str, Any]] = {
    "lion/2": {},
    "adafactor/0": {},
    "muon/0": {},
    "adamw/1": {"offload_optimizer": "cpu"},
    "adamw/3": {"offload_optimizer": "cpu", "offload_parameters": "cpu"},
}
ADAPTED = {"method": {"name": "lora", "rank": 4, "dropout": 0.0, "merge": True}}
"""An adapter that is trained, and is off where the base is asked."""
GRID = [(1, 2), (2, 1), (2, 8)]
"""Workers and micro-batch size."""
WITH_GRID = [
    *("causal-32", "causal-64", "masked-32", "masked-64", "masked", "classify"),
    *("chat", "chat-apart", "written", "prefer", "prefer-apart"),
]


class MasksByToken(MaskedLM):
    """Masks that packing cannot move."""

    def collate(self, rows: Any, numbers: Any) -> Batch:
        batch = super().collate(rows, numbers)
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        chosen = (ids % 3 == 0) & (ids > self.tokenizer().mask_token_id)
        masked = torch.where(chosen, self.tokenizer().mask_token_id, ids)
        return {**batch, "input_ids": masked, "labels": torch.where(chosen, ids, IGNORED)}


def settings(
    workers: int, batch_size: int, micro_batch_size: int, kind: Any = Training, **keys: Any
) -> Any:
    return kind.model_validate(
        {
            "workers": workers,
            "batch_size": batch_size,
            "micro_batch_size": micro_batch_size,
            "learning_rate": 1.0,
            "schedule": "constant",
            "warmup": 0.0,
            "gradient_clipping": 1e9,
            "precision": "fp32",
            **keys,
        }
    )


def parallel(way: str, rows: int, **keys: Any) -> Pretrain:
    """Two workers with half of each sequence, or of each layer."""
    shape = {"architecture": "llama"}  # the task has its own
    keys |= {"model": shape, "objective": "causal_lm", way: 2}
    return settings(2, rows, 2, Pretrain, **keys)


def start(**shape: Any) -> Start:
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": 64}
    return Start(shape=Shape.model_validate({**sizes, **shape}))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, int]]:
    """Tasks whose data is one global batch, and how many samples it has."""
    tokenizer = train_tokenizer(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    bert, llama = start(), start(architecture="llama")
    grouped = start(architecture="qwen3", heads=4, kv_heads=1)
    paired = start(architecture="qwen3", heads=4, kv_heads=2, config={"attention_bias": True})
    draw = np.random.default_rng(5)
    documents = [
        draw.integers(5, len(tokenizer), length).astype(np.uint16)
        for length in draw.integers(4, 28, 17)
    ]
    made: dict[str, tuple[Task, int]] = {}
    for length in (32, 64):
        table = pack_documents(documents, *ends, length, tokenizer.pad_token_id, len(tokenizer))
        storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
        corpus = corpus_of(storage, {"train": [table], "validation": [table[:2]]})
        tokenizer.save_pretrained(corpus.path / "tokenizer")
        rows = table.num_rows
        made[f"causal-{length}"] = CausalLM(corpus, llama, SEED, 1), rows
        made[f"masked-{length}"] = MasksByToken(corpus, bert, SEED, 1), rows
    made["grouped"] = CausalLM(corpus, grouped, SEED, 1), rows
    made["paired"] = CausalLM(corpus, paired, SEED, 1), rows
    made["dropping"] = MaskedLM(corpus, start(dropout=0.3), SEED, 1), rows
    made["masked"] = MaskedLM(corpus, bert, SEED, 1, mask_probability=0.2), rows
    counts = {"bad": {"validation": 7}, "good": {"validation": 4}}
    examples = published(
        storage,
        "examples/demo-examples-00",
        {"labels.json": '["bad", "good"]'},
        metrics={"labels": counts},
    )
    texts = [TEXTS[number % 5][: 3 + 2 * number] for number in range(11)]
    table = pa.table({"text": texts, "label": ["good", "bad", "bad"] * 3 + ["good", "bad"]})
    for split in ("train", "validation"):
        write_arrow(table, examples.path / f"{split}.arrow")
    folder = str(corpus.path / "tokenizer")
    classify = Classify(max_length=32, dropout=0.0, label_smoothing=0.1)
    made["classify"] = ClassifyTask(classify, examples, bert, folder), len(texts)
    made |= learned_tokens(storage, documents, folder)
    made |= preferences(storage, documents, folder)
    return made


def learned_tokens(
    storage: Storage, documents: list[Any], folder: str
) -> dict[str, tuple[Task, int]]:
    """Answers of a decoder-only model, packed and not, and what an encoder-decoder writes."""
    count = len(documents)
    halves = [np.arange(len(one)) > len(one) // 2 for one in documents]
    columns = {
        "chat": {"input_ids": documents, "learned": halves},
        "written": {"input_ids": documents, "labels": documents[::-1]},
    }
    rows = {}
    for name, of_rows in columns.items():
        table = pa.table({column: pa.array(each) for column, each in of_rows.items()})
        report = {"train": {"dropped": {}, "noted": {}}}
        rows[name] = published(storage, f"rows/{name}-render-00", metrics=report)
        for split in ("train", "validation"):
            write_arrow(table, rows[name].path / f"{split}.arrow")
    llama, t5 = start(architecture="llama"), start(architecture="t5")
    packed, apart = (Chat(max_length=32, packing=packing) for packing in (True, False))
    written = EncoderDecoderTask(Generate(max_length=32), rows["written"], t5, folder)
    return {
        "chat": (ChatTask(packed, rows["chat"], llama, folder), count),
        "chat-apart": (ChatTask(apart, rows["chat"], llama, folder), count),
        "written": (written, count),
    }


def preferences(storage: Storage, documents: list[Any], folder: str) -> dict[str, tuple[Task, int]]:
    """Pairs of answers, packed and not, with what the base said of them."""
    pairs = [*zip(documents, documents[::-1], strict=True)][: len(documents) // 2]
    columns: dict[str, Any] = {
        "input_ids": [np.concatenate(pair) for pair in pairs],
        "learned": [np.concatenate([np.arange(len(one)) > 2 for one in pair]) for pair in pairs],
        "lengths": [[len(one) for one in pair] for pair in pairs],
    }
    report = {"train": {"dropped": {}, "noted": {}}}
    rows = published(storage, "rows/prefer-render-00", metrics=report)
    reference = published(storage, "reference/prefer-reference-00")
    known = np.random.default_rng(SEED).normal(-60, 5, (len(pairs), 2)).tolist()
    for split in ("train", "validation"):
        write_arrow(pa.table(columns), rows.path / f"{split}.arrow")
        write_arrow(pa.table({"reference": known}), reference.path / f"{split}.arrow")
    llama = start(architecture="llama")
    base = str(rows.path / "base")
    torch.manual_seed(SEED)
    build(llama, "AutoModelForCausalLM", load(folder)).save_pretrained(base)

    def task(known: Any, begun: Start, **keys: Any) -> tuple[Task, int]:
        of_keys = Prefer.model_validate({"max_length": 32, **keys})
        return PreferTask(of_keys, rows, begun, folder, known), len(pairs)

    return {
        "prefer": task(reference, llama),
        "prefer-apart": task(reference, llama, packing=False),
        "prefer-adapted": task(None, Start(base=base), **ADAPTED),
    }


@pytest.fixture(scope="module")
def weights(
    tasks: dict[str, tuple[Task, int]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Weights]:
    """The weights that each case ends with."""
    cases = gradient_cases(tasks) | optimizer_cases(*tasks["causal-32"])
    task, rows = tasks["dropping"]
    cases["dropping"] = Case(task, settings(2, rows, 2, **STEPS))
    resumed = settings(2, rows, 2, **STEPS, **OFTEN)
    cases["dropping/resumed"] = Case(task, resumed, resumes=True)
    return trained(cases, tmp_path_factory.mktemp("worlds"))


def gradient_cases(tasks: dict[str, tuple[Task, int]]) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name in (*WITH_GRID, "grouped", "paired"):
        task, rows = tasks[name]
        cases[f"{name}/whole"] = Case(task, settings(1, rows, rows, zero={"stage": 0}), plain=True)
    for name in WITH_GRID:
        task, rows = tasks[name]
        for workers, size in GRID:
            case = Case(task, settings(workers, rows, size), plain=True)
            cases[f"{name}/{workers}x{size}"] = case
    for name, stages in STAGES_BY_TASK.items():
        task, rows = tasks[name]
        for stage in stages:
            case = Case(task, settings(2, rows, 2, **STAGES[stage]), plain=True)
            cases[f"{name}/{stage}"] = case
    for name, way, stage in PARALLEL:
        task, rows = tasks[name]
        case = Case(task, parallel(way, rows, **STAGES[stage]), plain=True)
        cases[f"{name}/{way}/{stage}"] = case
    task, rows = tasks["prefer-adapted"]
    for name, case in (
        ("whole", settings(1, rows, rows, Prefer, **ADAPTED)),
        ("2x1", settings(2, rows, 1, Prefer, **ADAPTED)),
        ("zero-3", settings(2, rows, 2, Prefer, **ADAPTED, **STAGES["zero-3"])),
    ):
        cases[f"prefer-adapted/{name}"] = Case(task, case, plain=True)
    task, rows = tasks["causal-32"]
    clipped = {"gradient_clipping": 0.1}
    cases["clipped/alone"] = Case(task, settings(1, rows, 2, **clipped), plain=True)
    for way, number in CLIPPED:
        keys = {**clipped, "zero": {"stage": number}}
        one = parallel(way, rows, **keys) if way else settings(2, rows, 2, **keys)
        cases[f"clipped/{way}/{number}"] = Case(task, one, plain=True)
    return cases


STEPS = {"epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "gradient_clipping": 1.0}
"""Of a training by an optimizer."""
OFTEN = {"checkpoint_minutes": 1e-9}


def optimizer_cases(task: Task, rows: int) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name, stage in OPTIMIZERS:
        keys = {"optimizer": name, "zero": {"stage": stage}, **STEPS}
        cases[f"{name}/{stage}"] = Case(task, settings(2, rows, 2, **keys))
        cases[f"{name}/{stage}/bf16"] = Case(task, settings(2, rows, 2, **keys, precision="bf16"))
    for name in ("adamw", "lion", "adafactor", "muon"):
        keys = {"optimizer": name, "zero": {"stage": 0}, **STEPS}
        cases[f"{name}/alone"] = Case(task, settings(1, rows, rows, **keys))
    for which, offload in RESUMED.items():
        name, _, number = which.partition("/")
        keys = {"optimizer": name, "zero": {"stage": int(number), **offload}, **STEPS, **OFTEN}
        cases[f"{which}/resumed"] = Case(task, settings(2, rows, 2, **keys), resumes=True)
    keys = {"optimizer": "lion", "zero": {"stage": 2}, **STEPS}
    cases["lion/2"] = Case(task, settings(2, rows, 2, **keys))
    for way in ("sequence_parallel", "tensor_parallel"):
        cases[way] = Case(task, parallel(way, rows, **STEPS))
        cases[f"{way}/bf16"] = Case(task, parallel(way, rows, **STEPS, precision="bf16"))
    return cases


def gradient(weights: Weights, task: Task) -> Weights:
    before = initial(task)
    return {name: before[name] - value for name, value in weights.items()}


def largest(weights: Weights) -> float:
    return max(float(value.abs().max()) for value in weights.values())


@pytest.mark.parametrize("grid", GRID, ids=lambda grid: f"{grid[0]}x{grid[1]}")
@pytest.mark.parametrize("name", [name for name in WITH_GRID if name != "masked-64"])
def test_workers_and_micro_batches_do_not_count(
    name: str, grid: tuple[int, int], weights: Any, tasks: Any
) -> None:
    whole = gradient(weights[f"{name}/whole"], tasks[name][0])
    shared = gradient(weights[f"{name}/{grid[0]}x{grid[1]}"], tasks[name][0])
    assert largest(whole) > 1e-3, "there is something to compare"
    assert distance(shared, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("grid", GRID, ids=lambda grid: f"{grid[0]}x{grid[1]}")
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_packing_does_not_count(kind: str, grid: tuple[int, int], weights: Any, tasks: Any) -> None:
    (task, rows), (_, other_rows) = tasks[f"{kind}-32"], tasks[f"{kind}-64"]
    assert rows > other_rows
    whole = gradient(weights[f"{kind}-32/whole"], task)
    other = gradient(weights[f"{kind}-64/{grid[0]}x{grid[1]}"], task)
    assert distance(other, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("name", ["chat", "prefer"])
def test_packing_of_answers_does_not_count(name: str, weights: Any, tasks: Any) -> None:
    apart = gradient(weights[f"{name}-apart/whole"], tasks[f"{name}-apart"][0])
    packed = gradient(weights[f"{name}/whole"], tasks[name][0])
    assert distance(packed, apart) <= TOLERANCE * largest(apart)


@pytest.mark.parametrize(
    ("name", "stage"),
    [(name, stage) for name, stages in STAGES_BY_TASK.items() for stage in stages],
)
def test_zero_offload_and_recomputed_activations_do_not_count(
    name: str, stage: str, weights: Any, tasks: Any
) -> None:
    whole = gradient(weights[f"{name}/whole"], tasks[name][0])
    shared = gradient(weights[f"{name}/{stage}"], tasks[name][0])
    assert distance(shared, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("shared", ["2x1", "zero-3"])
def test_nor_do_they_where_the_reference_is_the_model_without_its_adapter(
    shared: str, weights: Any, tasks: Any
) -> None:
    task = tasks["prefer-adapted"][0]
    whole = gradient(weights["prefer-adapted/whole"], task)
    assert largest(whole) > 1e-3
    other = gradient(weights[f"prefer-adapted/{shared}"], task)
    assert distance(other, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize(("way", "stage"), CLIPPED)
def test_the_norm_that_is_clipped_is_that_of_the_global_batch(
    way: str, stage: int, weights: Any, tasks: Any
) -> None:
    task = tasks["causal-32"][0]
    one = gradient(weights["clipped/alone"], task)
    norm = torch.stack([value.norm() for value in one.values()]).norm()
    assert float(norm) == pytest.approx(0.1, rel=1e-3)
    two = gradient(weights[f"clipped/{way}/{stage}"], task)
    assert distance(two, one) <= TOLERANCE * largest(one)


@pytest.mark.parametrize(("name", "stage"), OPTIMIZERS)
def test_optimizers_go_the_same_way_on_two_workers(
    name: str, stage: int, weights: Any, tasks: Any
) -> None:
    """But for gradients so near zero that rounding decides their sign."""
    task = tasks["causal-32"][0]
    alone = gradient(weights[f"{name}/alone"], task)
    shared = gradient(weights[f"{name}/{stage}"], task)
    way = sum(float(value.abs().sum()) for value in alone.values())
    apart = sum(float((alone[key] - value).abs().sum()) for key, value in shared.items())
    assert way > 0
    assert apart < 1e-3 * way


@pytest.mark.parametrize(
    "which",
    [*(f"{name}/{stage}" for name, stage in OPTIMIZERS), "sequence_parallel", "tensor_parallel"],
)
def test_bf16_goes_much_the_same_way(which: str, weights: Any, tasks: Any) -> None:
    task = tasks["causal-32"][0]
    exact, rounded = (
        torch.cat([value.flatten() for value in gradient(ends, task).values()])
        for ends in (weights[which], weights[f"{which}/bf16"])
    )
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > 0.8


@pytest.mark.parametrize(("name", "way", "stage"), PARALLEL)
def test_sequences_and_layers_that_workers_share_do_not_count(
    name: str, way: str, stage: str, weights: Any, tasks: Any
) -> None:
    """Packed documents do not see each other, nor do heads get others' keys."""
    whole = gradient(weights[f"{name}/whole"], tasks[name][0])
    parted = gradient(weights[f"{name}/{way}/{stage}"], tasks[name][0])
    assert largest(whole) > 1e-3
    assert distance(parted, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("way", ["sequence_parallel", "tensor_parallel"])
def test_nor_in_processes_that_nothing_was_trained_in_before(
    way: str, weights: Any, tasks: Any, tmp_path: Path
) -> None:
    task, rows = tasks["causal-32"]
    whole = gradient(weights["causal-32/whole"], task)
    alone = trained({way: Case(task, parallel(way, rows), plain=True)}, tmp_path)[way]
    assert distance(gradient(alone, task), whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("which", [*RESUMED, "dropping"])
def test_a_resumed_training_ends_where_it_would_have(which: str, weights: Any) -> None:
    assert distance(weights[f"{which}/resumed"], weights[which]) == 0
