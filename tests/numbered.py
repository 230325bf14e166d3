"""A training whose every sequence begins with its own number, and which records what it sees."""

import collections
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch.distributed as dist
from torch import Tensor

from cluster.store.storage import Storage
from tests.fakes import TEXTS
from tests.growing import whole_lines
from tests.packed import corpus_of
from tests.wrapped import Wrapped
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train as train_tokenizer
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.task import Batch

LENGTH = 16
SLOW, PAUSE_S = "slow", 0.2
"""While this file stands beside the records, each micro-batch takes so long at least."""
BASE, FIRST = 300, 5
"""A number is two tokens, digits to this base, behind the special tokens."""


def sequences(rows: int) -> list[list[int]]:
    """Token ids, which begin with the number of their row."""
    return [
        [FIRST + digit for digit in divmod(row, BASE)]
        + [FIRST + (7 * row + place * place) % BASE for place in range(LENGTH - 2)]
        for row in range(rows)
    ]


def task(folder: Path, rows: int, seed: int = 17) -> CausalLM:
    tokenizer = train_tokenizer(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=LENGTH)
    kinds = pa.list_(pa.uint16(), LENGTH), pa.list_(pa.uint16())
    columns = pa.array(sequences(rows), kinds[0]), pa.array([[LENGTH]] * rows, kinds[1])
    table = pa.table(dict(zip(("input_ids", "piece_lengths"), columns, strict=True)))
    corpus = corpus_of(Storage.at(str(folder)), {"train": [table], "validation": [table[:8]]})
    tokenizer.save_pretrained(corpus.path / "tokenizer")
    sizes = {"architecture": "llama", "hidden_size": 32, "layers": 1, "heads": 2}
    return CausalLM(corpus, Start(shape=Shape.model_validate(sizes)), seed, 1)


@dataclasses.dataclass(frozen=True)
class Recorded(Wrapped):
    """Writes down, for each micro-batch that is learned from, whose it is and what stands in it."""

    folder: Path

    def learned(self, loss: Tensor, batch: Batch) -> Tensor:
        first, second = batch["input_ids"][:, :2].T.tolist()
        digits = zip(first, second, strict=True)
        workers = dist.get_world_size()
        record = {
            # The ranks of a group share their port.
            "attempt": os.environ["MASTER_PORT"] if workers > 1 else str(os.getpid()),
            "workers": workers,
            "time": time.time(),
            "numbers": batch["numbers"].tolist(),
            "ids": [(high - FIRST) * BASE + low - FIRST for high, low in digits],
        }
        with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        if (self.folder / SLOW).exists():
            time.sleep(PAUSE_S)
        return loss


def records(folder: Path) -> list[dict[str, Any]]:
    return [record for path in folder.glob("*.jsonl") for record in whole_lines(path)]


def learned(folder: Path, batch_size: int) -> dict[int, list[int]]:
    """The ids that each step of the finished training learned from, in any order.

    A group goes on from a checkpoint, and takes the steps behind it anew: of every step the last
    group's counts.
    """
    began: dict[str, float] = {}
    seen: dict[int, dict[str, list[int]]] = collections.defaultdict(dict)
    for record in records(folder):
        attempt = record["attempt"]
        began[attempt] = min(began.get(attempt, record["time"]), record["time"])
        step = record["numbers"][0] // batch_size
        seen[step].setdefault(attempt, []).extend(record["ids"])
    return {step: by[max(by, key=lambda one: began[one])] for step, by in sorted(seen.items())}


def assert_each_once_an_epoch(
    steps: dict[int, list[int]], rows: int, batch_size: int, epochs: int
) -> None:
    assert rows % batch_size == 0
    an_epoch = rows // batch_size
    assert list(steps) == list(range(epochs * an_epoch))
    for epoch in range(epochs):
        taken: Sequence[list[int]] = list(steps.values())[epoch * an_epoch :][:an_epoch]
        assert sorted(one for step in taken for one in step) == list(range(rows)), epoch


def settings(**keys: Any) -> dict[str, Any]:
    """Of a training that is the same at any number of workers: every worker of one, two or three
    has equally many sequences, and equally many micro-batches."""
    return {
        "batch_size": 12,
        "micro_batch_size": 4,
        "learning_rate": 3e-3,
        "precision": "fp32",
        "checkpoint_minutes": 0.02,
        **keys,
    }
