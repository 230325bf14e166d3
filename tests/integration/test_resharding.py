"""A training goes on at 1 to 4 workers, under any ZeRO stage and with layers cut among any of them,
as if nothing had changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.adapters import Toy, bases
from tests.fakes import TEXTS, published
from tests.integration import relays
from tests.integration.relays import Leg, Relay
from tests.packed import corpus_of
from trainers.checkpoints import records
from trainers.checkpoints.parts import Columns, Parts
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.pack import pack_documents, write_arrow
from trainers.corpora.tokens.tokenizer import train as train_tokenizer
from trainers.engine.training_config import Training
from trainers.methods.loading import WEIGHTS
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.classify.spec import Classify
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.config import Pretrain
from trainers.tasks.task import Task

CUT = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""ZeRO-3 leaves small parameters whole, and here all are small."""
GROUPS = [(3, 1), (1, 0), (3, 3), (1, 3), (2, 2), (2, 0)]
"""Workers and ZeRO stage."""
CHANGING = {
    "adamw": [(2, 2), (3, 1), (3, 3), (1, 0)],
    "lion": [(3, 3), (1, 0), (2, 2)],
    "adafactor": [(2, 0), (1, 0), (3, 0)],
    "muon": [(3, 0), (1, 0), (2, 0)],
}
"""Workers and ZeRO stage of one leg after another, by optimizer."""
RATES = {"adamw": 3e-3, "lion": 1e-3, "adafactor": 0.3, "muon": 3e-3}
BF16_STAGES = (0, 2, 3)
ADAPTERS: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "lora": ({"name": "lora", "dropout": 0.0}, [(2, 3), (1, 0), (2, 1)]),
    "dora": ({"name": "lora", "dora": True, "dropout": 0.0}, [(1, 2), (2, 3)]),
    "adalora": (
        {"name": "adalora", "initial_rank": 6, "rank": 3, "every": 2, "dropout": 0.0},
        [(2, 2), (1, 1), (2, 0)],
    ),
    "prefix": ({"name": "prefix", "tokens": 3}, [(2, 1), (1, 3)]),
    "p_tuning": ({"name": "p_tuning", "tokens": 3, "hidden_size": 8}, [(1, 3), (2, 2)]),
    "ia3": ({"name": "ia3"}, [(2, 3), (1, 1)]),
    "adapter": ({"name": "adapter", "size": 4}, [(2, 2), (1, 3)]),
}
"""Methods, and workers and ZeRO stage of one leg after another."""
PARALLEL = [(2, 2, 2), (4, 3, 2), (1, 0, 1), (4, 1, 4), (2, 3, 2)]
"""Workers, ZeRO stage, and how many share the weights of a layer."""


def settings(workers: int, stage: int, kind: type[Training] = Training, **keys: Any) -> Training:
    return kind.model_validate(
        {
            "workers": workers,
            "zero": {"stage": stage},
            "deepspeed": CUT if stage == 3 else {},
            "batch_size": 5,
            "micro_batch_size": 2,
            "epochs": 6,
            "learning_rate": 3e-3,
            "warmup": 0.0,
            "weight_decay": 0.1,
            "precision": "fp32",
            **keys,
        }
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    tokenizer = train_tokenizer(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    draw = np.random.default_rng(5)
    documents = [
        draw.integers(5, len(tokenizer), length).astype(np.uint16)
        for length in draw.integers(4, 28, 34)
    ]
    table = pack_documents(documents, *ends, 32, tokenizer.pad_token_id, len(tokenizer))
    storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
    corpus = corpus_of(storage, {"train": [table], "validation": [table[:2]]})
    tokenizer.save_pretrained(corpus.path / "tokenizer")
    sizes = {"hidden_size": 32, "layers": 2, "heads": 4, "max_positions": 64}
    llama = Start(shape=Shape.model_validate({"architecture": "llama", **sizes}))
    return CausalLM(corpus, llama, relays.SEED, 1)


@pytest.fixture(scope="module")
def folder(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = adapters(tmp_path_factory.mktemp("bases"))
    for optimizer, legs in CHANGING.items():
        keys = {"optimizer": optimizer, "learning_rate": RATES[optimizer]}
        whole = Leg(settings(1, 0, **keys))
        runs[f"{optimizer}-whole"] = Relay(task, [whole])
        changing = [Leg(settings(*leg, **keys), 2) for leg in legs]
        changing[-1] = Leg(changing[-1].settings)
        runs[optimizer] = Relay(task, changing)
    for stage in BF16_STAGES:
        of_two = settings(2, stage, precision="bf16")
        runs[f"bf16-{stage}-whole"] = Relay(task, [Leg(of_two)])
        runs[f"bf16-{stage}"] = Relay(task, [Leg(of_two, 3), Leg(of_two)])
    legs = [parallel(*leg) for leg in PARALLEL]
    runs["parallel-whole"] = Relay(task, [Leg(parallel(1, 0, 1))])
    runs["parallel"] = Relay(task, [*(Leg(leg, 2) for leg in legs), Leg(legs[0])])
    runs["parallel-bits"] = Relay(task, [Leg(legs[0], 3), *(Leg(leg, 0) for leg in legs)])
    again = [Leg(settings(*leg, precision="bf16"), 0) for leg in GROUPS]
    runs["bits"] = Relay(task, [Leg(settings(3, 2, precision="bf16"), 3), *again])
    folder = tmp_path_factory.mktemp("relays")
    relays.run(runs, folder)
    return folder


def adapters(folder: Path) -> dict[str, Relay]:
    """Every kind of adapter in an encoder with a head of its own; and packed conversations."""
    bases(folder)
    encoder = Toy(str(folder / "encoder"), str(folder / "encoder"), "encoder")
    runs = {}
    for name, (method, legs) in ADAPTERS.items():
        keys = {"method": method, "epochs": 2, "learning_rate": 1e-2}
        runs[f"{name}-whole"] = Relay(encoder, [Leg(settings(1, 0, Classify, **keys))])
        runs[name] = relay(encoder, legs, Classify, **keys)
    llama = str(folder / "causal")
    keys = {"method": {"name": "lora", "dropout": 0.0}, "epochs": 2, "learning_rate": 1e-2}
    chat = ChatTask(Chat(max_length=32), conversations(folder), Start(base=llama), llama)
    runs["chat-whole"] = Relay(chat, [Leg(settings(1, 0, Chat, **keys))])
    runs["chat"] = relay(chat, [(2, 2), (1, 0), (3, 3)], Chat, **keys)
    return runs


def relay(task: Task, legs: Sequence[tuple[int, int]], kind: type[Training], **keys: Any) -> Relay:
    """Each leg but the last ends after two steps, amid an epoch."""
    changing = [Leg(settings(*leg, kind, **keys), 2) for leg in legs[:-1]]
    return Relay(task, [*changing, Leg(settings(*legs[-1], kind, **keys))])


def conversations(folder: Path) -> Artifact:
    """Rows of token ids, of which the second half is learned."""
    draw = np.random.default_rng(7)
    ids = [draw.integers(5, 300, length) for length in draw.integers(4, 30, 23)]
    learned = [np.arange(len(one)) > len(one) // 2 for one in ids]
    rows = published(
        Storage.at(str(folder)),
        "rows/talk-render-00",
        metrics={"train": {"dropped": {}, "noted": {}}},
    )
    for split in ("train", "validation"):
        write_arrow(pa.table({"input_ids": ids, "learned": learned}), rows.path / f"{split}.arrow")
    return rows


def parallel(workers: int, stage: int, parts: int) -> Training:
    keys = {"objective": "causal_lm", "model": {"architecture": "llama"}}  # the task has its own
    return settings(workers, stage, Pretrain, tensor_parallel=parts, **keys)


@pytest.mark.parametrize("name", [*CHANGING, "parallel"])
def test_the_order_of_samples_and_the_losses_stay(name: str, folder: Path) -> None:
    whole, changing = (relays.steps(folder, relay) for relay in (f"{name}-whole", name))
    assert len(whole) > 2 * len(CHANGING.get(name, PARALLEL)), "the last leg has something to do"
    assert [step["samples"] for step in changing] == [step["samples"] for step in whole]
    assert [step["step"] for step in changing] == [step["step"] for step in whole]
    losses = [[step["loss"] for step in steps] for steps in (changing, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1][-1] < losses[1][0] - 0.1, "it learns"


@pytest.mark.parametrize("name", [*ADAPTERS, "chat"])
def test_adapters_go_on_as_if_nothing_had_changed(name: str, folder: Path) -> None:
    whole, changing = (relays.steps(folder, relay) for relay in (f"{name}-whole", name))
    assert [step["samples"] for step in changing] == [step["samples"] for step in whole]
    assert len({sample for step in whole for sample in step["samples"]}) > 8
    losses = [[step["loss"] for step in steps] for steps in (changing, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[1][-1] != pytest.approx(losses[1][0], rel=1e-2), "it learns"
    expected, found = (
        load_file(folder / relays.draft(folder, relay).place / WEIGHTS)
        for relay in (f"{name}-whole", name)
    )
    assert found.keys() == expected.keys()
    for key, weight in found.items():
        assert torch.allclose(weight, expected[key], rtol=1e-5, atol=1e-5), key


def test_what_has_changed_is_told(folder: Path) -> None:
    changed = next(line for line in relays.progress_lines(folder, "parallel") if "resumes" in line)
    assert changed.endswith("resharded from 2 to 4 workers and from ZeRO stage 2 to 3")
    assert any(
        "from tensor_parallel 4 to 2" in line for line in relays.progress_lines(folder, "parallel")
    )
    lines = [line for line in relays.progress_lines(folder, "lion") if "resumes" in line]
    assert lines == [
        "resumes from checkpoint step-00000002, resharded from 3 to 1 workers and from ZeRO stage "
        "3 to 0",
        "resumes from checkpoint step-00000004, resharded from 1 to 2 workers and from ZeRO stage "
        "0 to 2",
    ]


@pytest.mark.parametrize("stage", BF16_STAGES)
def test_bf16_goes_on_exactly_where_nothing_has_changed(stage: int, folder: Path) -> None:
    """With the optimizer's fp32 weights, not with the rounded ones."""
    assert relays.steps(folder, f"bf16-{stage}") == relays.steps(folder, f"bf16-{stage}-whole")


AGAIN = {"bits": GROUPS, "parallel-bits": PARALLEL}


@pytest.mark.parametrize(
    ("name", "leg"), [(name, leg + 1) for name, legs in AGAIN.items() for leg in range(len(legs))]
)
def test_other_workers_and_stages_hold_the_same_bits(name: str, leg: int, folder: Path) -> None:
    saved, again = (parts(folder, relay) for relay in (name, f"{name}-again-{leg}"))
    assert again._fragments.keys() == saved._fragments.keys()
    for kind, name in saved._fragments:
        elements = [elements_of(one, kind, name) for one in (saved, again)]
        assert elements[0] == elements[1]
        tensors = [one.read(kind, name, 0, elements[0]) for one in (saved, again)]
        assert torch.equal(*tensors), (kind, name)


def parts(folder: Path, relay: str) -> Parts:
    draft = relays.draft(folder, relay)
    place = f"{draft.work}/step-00000003"
    record = records.read_record(draft.storage, place)
    return Parts(draft.storage.local(place) / name for name in record.files)


def test_workers_that_share_layers_keep_their_columns(folder: Path) -> None:
    kept = parts(folder, "parallel-bits")._fragments
    columns = kept["weight", "model.model.layers.0.self_attn.o_proj.weight"]
    assert set(columns) == {Columns(0, 16, 32), Columns(16, 32, 32)}
    assert set(kept["weight", "model.model.embed_tokens.weight"]) == {None}


def elements_of(parts: Parts, kind: str, name: str) -> int:
    kept = parts._fragments[kind, name].values()
    return sum(one.shape[0] for fragments in kept for one in fragments if one.shape)
