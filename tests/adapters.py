"""Tiny bases to put adapters into, and what is learned of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tests.fakes import TEXTS
from tests.rows import InMemory
from trainers.corpora.config import Tokenizer
from trainers.corpora.feeding.feed import Rows
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.methods.adapt import Adapted, adapt
from trainers.models.build import Start, build
from trainers.models.shape import Shape
from trainers.tasks.classify.spec import Classify
from trainers.tasks.encoding import pad
from trainers.tasks.task import Batch, Counts, Guess

ROWS = 16
SIZES = {"hidden_size": 32, "layers": 1, "heads": 2, "max_positions": 64}
CLASSES, WRITES, TRANSLATES = (
    f"AutoModelFor{what}" for what in ("SequenceClassification", "CausalLM", "Seq2SeqLM")
)
KINDS = {
    "encoder": ("bert", "AutoModelForMaskedLM", CLASSES),
    "causal": ("llama", WRITES, WRITES),
    "both": ("t5", TRANSLATES, TRANSLATES),
}
"""Architecture, head of the base, and of what is made of it."""


def bases(folder: Path) -> None:
    """A model of every kind, without a head of a task, and a tokenizer."""
    tokenizer = tokenizers.train(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
    for kind, (architecture, head, _) in KINDS.items():
        torch.manual_seed(0)
        shape = Shape.model_validate({"architecture": architecture, **SIZES})
        build(Start(shape=shape), head, tokenizer).save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)


@dataclasses.dataclass(frozen=True)
class Toy:
    """Which of three labels a row has, by an encoder; or its next tokens, by another kind."""

    base: str
    tokenizer_folder: str
    kind: str

    rows_are_coupled: ClassVar[bool] = False

    def tokenizer(self) -> Any:
        return tokenizers.load(self.tokenizer_folder)

    @property
    def head(self) -> str:
        return KINDS[self.kind][-1]

    def model(self) -> Any:
        start, tokenizer = Start(base=self.base), self.tokenizer()
        if self.head != CLASSES:
            return build(start, self.head, tokenizer)
        labels = {str(number): number for number in range(3)}
        return build(
            start,
            CLASSES,
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
        is_classified = self.head == CLASSES
        of_rows = batch["labels"] >= 0 if is_classified else batch["attention_mask"][:, 1:]
        return float(of_rows.sum())

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Counts]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        written = {"decoder_input_ids": ids} if self.head == TRANSLATES else {}
        logits = model(input_ids=ids, attention_mask=mask, **written).logits.float()
        if self.head == CLASSES:
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


def learned(base: Path, kind: str, method: Any, by: float = 0.1) -> Adapted:
    """An adapter in a base of a kind, all of whose weights are moved by about so much at random, as
    if it had learned something."""
    torch.manual_seed(0)
    adapter = Classify.model_validate({"method": method}).adapter
    assert adapter is not None
    made = adapt(Toy(str(base), str(base), kind).model(), adapter)
    with torch.no_grad():
        for weight in made.trained.values():
            weight.add_(by * torch.randn_like(weight))
    return made
