"""The gradient of a global batch is the same however it is shared out: over workers, micro-batches,
packed rows, ZeRO's stages, offload, and with activations that are computed again.

One step by the gradient alone, at a learning rate of 1, moves each weight by its gradient.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from transformers import BertForTokenClassification

from cluster.store.storage import Storage
from tests.fakes import TEXTS, published
from tests.integration.worlds import SEED, Case, Weights, distance, initial, trained
from tests.packed import corpus_of
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.pack import pack_documents, write_arrow
from trainers.corpora.tokens.tokenizer import train as train_tokenizer
from trainers.engine.training_config import Training
from trainers.models.build import Start, packed_inputs
from trainers.models.shape import Shape
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.config import Pretrain
from trainers.tasks.pretraining.language_model import cross_entropy
from trainers.tasks.pretraining.masked_lm import MaskedLM
from trainers.tasks.task import IGNORED, Batch, Task

TOLERANCE = 1e-5
"""Of the largest gradient."""
CUT = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""ZeRO-3 leaves small parameters whole, and here all are small."""
STAGES: dict[str, dict[str, Any]] = {
    "zero-0": {"zero": {"stage": 0}},
    "zero-1": {"zero": {"stage": 1}},
    "zero-3": {"zero": {"stage": 3}, "deepspeed": CUT},
    "zero-1-offload": {"zero": {"stage": 1, "offload_optimizer": "cpu"}},
    "zero-2-offload": {"zero": {"stage": 2, "offload_optimizer": "cpu"}},
    "zero-3-offload": {
        "zero": {"stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
        "deepspeed": CUT,
    },
    "recompute": {"activation_checkpointing": True},
    "recompute-zero-3": {
        "activation_checkpointing": True,
        "zero": {"stage": 3},
        "deepspeed": CUT,
    },
}
KEPT = {
    "causal-32": [*STAGES],
    "masked": ["zero-3", "zero-3-offload", "recompute"],
    "classify": ["zero-1", "zero-2-offload", "recompute-zero-3"],
}
"""Stages by the task that they are tried with."""
SHARED: dict[str, dict[str, dict[str, Any]]] = {
    "sequence_parallel": {
        **{name: STAGES[name] for name in ("zero-0", "zero-1", "zero-3", "recompute")},
        "zero-2": {},
    },
    "tensor_parallel": {
        **{name: STAGES[name] for name in ("zero-1", "zero-3", "recompute")},
        "zero-2": {},
    },
}
"""Stages by what workers share."""
CLIPPED = {"sequence_parallel": range(4), "tensor_parallel": range(1, 4)}
WAYS = {
    "sequence_parallel": ("causal-32", "grouped"),
    "tensor_parallel": ("causal-32", "paired"),
}
"""Tasks by what their workers share."""
RESUMED: dict[str, dict[str, Any]] = {
    "lion/0": {},
    "lion/2": {},
    "adafactor/0": {},
    "adamw/1": {"offload_optimizer": "cpu"},
    "adamw/3": {"offload_optimizer": "cpu", "offload_parameters": "cpu"},
}
ONCE = ("grouped", "paired", "dropping")
"""Tasks that are not tried at every number of workers and micro-batch."""
GRID = [(workers, micro_batch_size) for workers in (1, 2) for micro_batch_size in (1, 2, 8)]
OPTIMIZERS = [(name, stage) for name in ("adamw", "lion") for stage in range(4)]


class MasksByToken(MaskedLM):
    """Masks that packing cannot move."""

    def collate(self, rows: Any, numbers: Any) -> Batch:
        batch = super().collate(rows, numbers)
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        chosen = (ids % 3 == 0) & (ids > self.tokenizer().mask_token_id)
        masked = torch.where(chosen, self.tokenizer().mask_token_id, ids)
        return {**batch, "input_ids": masked, "labels": torch.where(chosen, ids, IGNORED)}


class Tags(MasksByToken):
    """Token classification: every token that is masked LM's to guess has one of three tags."""

    def model(self) -> Any:
        config = super().model().config
        config.num_labels = 3
        return BertForTokenClassification(config)

    def collate(self, rows: Any, numbers: Any) -> Batch:
        batch = super().collate(rows, numbers)
        labels = batch["labels"]
        return {**batch, "labels": torch.where(labels == IGNORED, IGNORED, labels % 3)}

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(**packed_inputs(model, batch["input_ids"], batch["segments"])).logits
        return cross_entropy(logits, batch["labels"], counted=not model.training)


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


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, int]]:
    """Tasks whose data is one global batch, and how many samples it has."""
    tokenizer = train_tokenizer(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": 64}
    bert = Start(shape=Shape.model_validate(sizes))
    llama = Start(shape=Shape.model_validate({"architecture": "llama", **sizes}))
    grouped = Start(
        shape=Shape.model_validate({"architecture": "qwen3", **sizes, "heads": 4, "kv_heads": 1})
    )
    paired = Start(
        shape=Shape.model_validate(
            {
                "architecture": "qwen3",
                **sizes,
                "heads": 4,
                "kv_heads": 2,
                "config": {"attention_bias": True},
            }
        )
    )
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
        made[f"tags-{length}"] = Tags(corpus, bert, SEED, 1), rows
    made["grouped"] = CausalLM(corpus, grouped, SEED, 1), rows
    made["paired"] = CausalLM(corpus, paired, SEED, 1), rows
    dropping = Start(shape=Shape.model_validate({**sizes, "dropout": 0.3}))
    made["dropping"] = MaskedLM(corpus, dropping, SEED, 1), rows
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
    settings = Classify(max_length=32, dropout=0.0, label_smoothing=0.1)
    made["classify"] = ClassifyTask(settings, examples, bert, folder), len(texts)
    return made


@pytest.fixture(scope="module")
def found(
    tasks: dict[str, tuple[Task, int]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Weights]:
    cases: dict[str, Case] = {}
    for name, (task, rows) in tasks.items():
        cases[f"{name}/whole"] = Case(task, settings(1, rows, rows, zero={"stage": 0}), plain=True)
        for workers, size in GRID if name not in ONCE else ():
            case = Case(task, settings(workers, rows, size), plain=True)
            cases[f"{name}/{workers}x{size}"] = case
    for name, stages in KEPT.items():
        task, rows = tasks[name]
        for stage in stages:
            keys = STAGES[stage]
            cases[f"{name}/{stage}"] = Case(task, settings(2, rows, 2, **keys), plain=True)
    task, rows = tasks["causal-32"]
    for workers, stage in [(1, 0), *((2, stage) for stage in range(4))]:
        keys = {"zero": {"stage": stage}, "gradient_clipping": 0.1}
        name = f"clipped/{stage}" if workers == 2 else "clipped/alone"
        cases[name] = Case(task, settings(workers, rows, 2, **keys), plain=True)
    steps = {"epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "gradient_clipping": 1.0}
    for name, stage in OPTIMIZERS:
        keys = {"optimizer": name, "zero": {"stage": stage}, **steps}
        cases[f"{name}/{stage}"] = Case(task, settings(2, rows, 2, **keys))
        cases[f"{name}/{stage}/bf16"] = Case(task, settings(2, rows, 2, **keys, precision="bf16"))
    for name in ("adamw", "lion", "adafactor"):
        keys = {"optimizer": name, "zero": {"stage": 0}, **steps}
        cases[f"{name}/alone"] = Case(task, settings(1, rows, rows, **keys))
    cases["adafactor/0"] = Case(task, settings(2, rows, 2, **keys))
    cases["adafactor/0/bf16"] = Case(task, settings(2, rows, 2, **keys, precision="bf16"))
    for which, offload in RESUMED.items():
        name, _, stage = which.partition("/")
        keys = {"optimizer": name, "zero": {"stage": int(stage), **offload}, **steps}
        keys |= {"checkpoint_minutes": 1e-9}
        cases[f"{which}/resumed"] = Case(task, settings(2, rows, 2, **keys), resumes=True)
    task, rows = tasks["dropping"]
    cases["dropping"] = Case(task, settings(2, rows, 2, **steps))
    keys = {**steps, "checkpoint_minutes": 1e-9}
    cases["dropping/resumed"] = Case(task, settings(2, rows, 2, **keys), resumes=True)
    for way, names in WAYS.items():
        for name in names:
            task, rows = tasks[name]
            for stage, keys in SHARED[way].items():
                cases[f"{name}/{way}/{stage}"] = Case(task, shared(way, rows, **keys), plain=True)
        task, rows = tasks["causal-32"]
        for stage in CLIPPED[way]:
            keys = {"gradient_clipping": 0.1, "zero": {"stage": stage}}
            cases[f"clipped/{way}/{stage}"] = Case(task, shared(way, rows, **keys), plain=True)
        cases[way] = Case(task, shared(way, rows, **steps))
        cases[f"{way}/bf16"] = Case(task, shared(way, rows, **steps, precision="bf16"))
        keys = {**steps, "checkpoint_minutes": 1e-9}
        cases[f"{way}/resumed"] = Case(task, shared(way, rows, **keys), resumes=True)
    return trained(cases, tmp_path_factory.mktemp("worlds"))


def shared(way: str, rows: int, **keys: Any) -> Pretrain:
    """Two workers with half of each sequence, or of each layer."""
    shape = {"architecture": "llama"}  # the task has its own
    keys |= {"model": shape, "objective": "causal_lm", way: 2}
    return settings(2, rows, 2, Pretrain, **keys)


def gradient(weights: Weights, task: Task) -> Weights:
    start = initial(task)
    return {name: start[name] - value for name, value in weights.items()}


def largest(weights: Weights) -> float:
    return max(float(value.abs().max()) for value in weights.values())


@pytest.mark.parametrize("grid", GRID, ids=lambda grid: f"{grid[0]}x{grid[1]}")
@pytest.mark.parametrize(
    "name", ["causal-32", "causal-64", "masked", "masked-32", "classify", "tags-32"]
)
def test_workers_and_micro_batches_do_not_count(
    name: str, grid: tuple[int, int], found: Any, tasks: Any
) -> None:
    whole = gradient(found[f"{name}/whole"], tasks[name][0])
    shared = gradient(found[f"{name}/{grid[0]}x{grid[1]}"], tasks[name][0])
    assert largest(whole) > 1e-3, "there is something to compare"
    assert distance(shared, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("grid", GRID, ids=lambda grid: f"{grid[0]}x{grid[1]}")
@pytest.mark.parametrize("kind", ["causal", "masked", "tags"])
def test_packing_does_not_count(kind: str, grid: tuple[int, int], found: Any, tasks: Any) -> None:
    (task, rows), (_, other_rows) = tasks[f"{kind}-32"], tasks[f"{kind}-64"]
    assert rows > other_rows
    whole = gradient(found[f"{kind}-32/whole"], task)
    other = gradient(found[f"{kind}-64/{grid[0]}x{grid[1]}"], task)
    assert distance(other, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name, stages in KEPT.items() for stage in stages]
)
def test_what_is_sharded_and_kept_does_not_count(
    name: str, stage: str, found: Any, tasks: Any
) -> None:
    whole = gradient(found[f"{name}/whole"], tasks[name][0])
    shared = gradient(found[f"{name}/{stage}"], tasks[name][0])
    assert distance(shared, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize(
    "which", [*range(4), *(f"{way}/{stage}" for way in WAYS for stage in CLIPPED[way])]
)
def test_the_norm_that_is_clipped_is_that_of_the_global_batch(
    which: int | str, found: Any, tasks: Any
) -> None:
    task = tasks["causal-32"][0]
    one = gradient(found["clipped/alone"], task)
    norm = torch.stack([value.norm() for value in one.values()]).norm()
    assert float(norm) == pytest.approx(0.1, rel=1e-3)
    two = gradient(found[f"clipped/{which}"], task)
    assert distance(two, one) <= TOLERANCE * largest(one)


@pytest.mark.parametrize(("name", "stage"), [*OPTIMIZERS, ("adafactor", 0)])
def test_optimizers_go_the_same_way_on_two_workers(
    name: str, stage: int, found: Any, tasks: Any
) -> None:
    """But for gradients so near zero that rounding decides their sign."""
    task = tasks["causal-32"][0]
    alone = gradient(found[f"{name}/alone"], task)
    shared = gradient(found[f"{name}/{stage}"], task)
    way = sum(float(value.abs().sum()) for value in alone.values())
    apart = sum(float((alone[key] - value).abs().sum()) for key, value in shared.items())
    assert way > 0
    assert apart < 1e-3 * way


@pytest.mark.parametrize(
    "which", [*(f"{name}/{stage}" for name, stage in OPTIMIZERS), "adafactor/0", *WAYS]
)
def test_bf16_goes_much_the_same_way(which: str, found: Any, tasks: Any) -> None:
    task = tasks["causal-32"][0]
    exact, rounded = (
        torch.cat([value.flatten() for value in gradient(weights, task).values()])
        for weights in (found[which], found[f"{which}/bf16"])
    )
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > 0.8


@pytest.mark.parametrize(
    ("way", "name", "stage"),
    [(way, name, stage) for way in WAYS for name in WAYS[way] for stage in SHARED[way]],
)
def test_sequences_and_layers_that_workers_share_do_not_count(
    way: str, name: str, stage: str, found: Any, tasks: Any
) -> None:
    """Packed documents do not see each other, nor do heads get others' keys."""
    whole = gradient(found[f"{name}/whole"], tasks[name][0])
    parted = gradient(found[f"{name}/{way}/{stage}"], tasks[name][0])
    assert largest(whole) > 1e-3
    assert distance(parted, whole) <= TOLERANCE * largest(whole)


@pytest.mark.parametrize("which", [*RESUMED, *WAYS, "dropping"])
def test_a_resumed_training_ends_where_it_would_have(which: str, found: Any) -> None:
    assert distance(found[f"{which}/resumed"], found[which]) == 0
