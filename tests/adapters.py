"""Tiny bases, and trainings of adapters on them in a world of two processes over gloo."""

import dataclasses
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from deepspeed.utils import groups
from torch import Tensor
from torch.nn import functional

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import TEXTS, Notes
from tests.rows import InMemory
from trainers.corpora.config import Tokenizer
from trainers.corpora.feeding.feed import Rows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.engine.job import Ended, TrainJob
from trainers.engine.loop import train
from trainers.engine.stop_requests import Request
from trainers.methods import saving
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.tasks.classify.spec import Classify
from trainers.tasks.encoding import pad
from trainers.tasks.task import Batch, Counts, Guess

SEED, ROWS = 17, 16
SIZES = {"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": 64}
KINDS = {
    "encoder": ("bert", "AutoModelForMaskedLM"),
    "causal": ("llama", "AutoModelForCausalLM"),
}


def bases(folder: Path) -> None:
    """A pretrained encoder and a causal model, which have no head of a task, and a tokenizer."""
    tokenizer = tokenizers.train(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
    for kind, (architecture, head) in KINDS.items():
        torch.manual_seed(0)
        shape = Shape.model_validate({"architecture": architecture, **SIZES})
        build(Start(shape=shape), head, tokenizer).save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)


@dataclasses.dataclass(frozen=True)
class Toy:
    """Which of three labels a row has, by an encoder; or its next tokens, by a causal model."""

    base: str
    tokenizer_folder: str
    is_causal: bool

    rows_are_coupled: ClassVar[bool] = False

    def tokenizer(self) -> Any:
        return tokenizers.load(self.tokenizer_folder)

    def model(self) -> Any:
        start, tokenizer = Start(base=self.base), self.tokenizer()
        if self.is_causal:
            return build(start, "AutoModelForCausalLM", tokenizer)
        labels = {str(number): number for number in range(3)}
        return build(
            start,
            "AutoModelForSequenceClassification",
            tokenizer,
            num_labels=3,
            label2id=labels,
            id2label={number: name for name, number in labels.items()},
        )

    def rows(self, split: str) -> Rows:
        ids = [[5 + (3 * row + place) % 50 for place in range(4 + row % 5)] for row in range(ROWS)]
        return InMemory(ids)

    def length(self, row: dict[str, Any]) -> int:
        return len(row["input_ids"])

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        return [{"input_ids": [5] * 16, "label": 0}] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        batch = pad([row["input_ids"] for row in rows], 0)
        return {**batch, "labels": torch.tensor([row["input_ids"][0] % 3 for row in rows])}

    def targets(self, batch: Batch) -> float:
        of_rows = batch["attention_mask"][:, 1:] if self.is_causal else batch["labels"] >= 0
        return float(of_rows.sum())

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Counts]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        logits = model(input_ids=ids, attention_mask=mask).logits.float()
        if not self.is_causal:
            return functional.cross_entropy(logits, batch["labels"], reduction="sum"), {}
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        return functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), labels, reduction="sum", ignore_index=-100
        ), {}

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        return {"loss": float(counts["loss"] / counts["targets"])}

    def guess(self, validation: Rows) -> Guess:
        return Guess("loss", 100.0, "min", "nothing")

    def unlearned(self) -> dict[str, int]:
        return {}

    def flops(self, model: Any) -> Callable[[Batch], float]:
        return lambda batch: 1.0


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    method: Mapping[str, Any]
    stage: int
    precision: str = "fp32"
    resumes: bool = False
    """Is stopped after its third step, and goes on from the checkpoint."""
    base: "Case | None" = None
    """Whose model it starts from; else from that of its kind."""

    @property
    def name(self) -> str:
        keys = "-".join(f"{key}={value}" for key, value in self.method.items() if key != "name")
        how = "-resumes" if self.resumes else "-further" if self.base else ""
        return f"{self.kind}-{self.method['name']}-{keys}-{self.stage}-{self.precision}{how}"

    @property
    def settings(self) -> Classify:
        return Classify.model_validate(
            {
                "method": self.method,
                "workers": 2,
                "batch_size": 8,
                "micro_batch_size": 2,
                "epochs": 3,
                "precision": self.precision,
                "zero": {"stage": self.stage},
                "checkpoint_minutes": 1000,
                "learning_rate": 1e-2,
            }
        )

    def draft(self, folder: Path) -> Draft:
        return Draft(Storage.at(str(folder)), f"model/{self.name}")


def trained(rank: int, cases: Sequence[Case], folder: Path) -> None:
    """Trains every case, as one of two processes; what a gate refuses is in a file beside it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    store = dist.FileStore(str(folder / "world"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    # This process has no engine that the gate could meet: each is gone when the next one begins.
    saving.call_in_plain_process = lambda function, *arguments: function(*arguments)
    for case in cases:
        try:
            _trained(case, folder)
        except Exception:  # noqa: BLE001  told by the test of this case
            (folder / f"{case.name}.{rank}.error").write_text(traceback.format_exc())
    dist.destroy_process_group()


def _trained(case: Case, folder: Path) -> None:
    start = folder / case.kind if case.base is None else folder / case.base.draft(folder).place
    task = Toy(str(start), str(folder / case.kind), case.kind == "causal")
    job = TrainJob(lambda: task, case.settings, SEED, case.draft(folder))
    asked = 0

    def stop() -> Request:
        nonlocal asked
        asked += 1
        return Request.STOP if asked == 3 else Request.NOTHING

    if case.resumes:
        try:
            train(job, Notes(), request=stop)
        except Ended:
            pass
        finally:
            groups._release_process_group_references()
    notes = Notes()
    try:
        train(job, notes)
    finally:
        groups._release_process_group_references()
    assert not case.resumes or dist.get_rank() or "resumes from" in "".join(notes.lines), notes
