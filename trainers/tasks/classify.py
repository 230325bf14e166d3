"""Text classification: sentiment, topics and their like.

Encoding and decoding stand here once, for training, evaluation and serving.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from cluster.artifacts import Artifact
from trainers.corpora.feeding.feed import Tokenized
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import read_arrow
from trainers.model import Start, build, refuse_longer
from trainers.tasks import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def encode(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], max_length: int
) -> list[list[int]]:
    """Token ids of each text, cut to `max_length`. `[SEP]` in a text is text, as in pretraining
    (huggingface/tokenizers#722)."""
    if not texts:
        return []
    return tokenizer(
        list(texts), truncation=True, max_length=max_length, split_special_tokens=True
    )["input_ids"]


def pad(input_ids: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """`input_ids` and `attention_mask`, (batch, longest)."""
    longest = max(map(len, input_ids))
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in input_ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in input_ids])
    return {"input_ids": ids, "attention_mask": mask}


@torch.inference_mode()
def probabilities(
    model: "PreTrainedModel", input_ids: Sequence[Sequence[int]], batch_size: int
) -> Tensor:
    """(texts, labels) in fp32, by forwards over texts of similar length."""
    found = torch.empty(len(input_ids), model.config.num_labels or 0)
    order = sorted(range(len(input_ids)), key=lambda index: len(input_ids[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = pad([input_ids[index] for index in chosen], model.config.pad_token_id)
        logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits
        found[chosen] = torch.softmax(logits.float(), dim=-1).cpu()
    return found


@dataclasses.dataclass(frozen=True)
class Classify:
    examples: Artifact
    start: Start
    tokenizer_folder: str
    labels: Sequence[str]
    """In the order of their numbers."""
    max_length: int
    dropout: float
    label_smoothing: float

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        tokenizer = tokenizers.load(self.tokenizer_folder, "finetune.base")
        # So that others cut and encode texts as we do.
        tokenizer.model_max_length = self.max_length
        tokenizer.split_special_tokens = True
        tokenizer.init_kwargs["split_special_tokens"] = True  # which is what is saved
        return tokenizer

    def model(self) -> "PreTrainedModel":
        model = build(
            self.start,
            "classify",
            self.tokenizer(),
            classifier_dropout=self.dropout,
            problem_type="single_label_classification",
            num_labels=len(self.labels),
            id2label=dict(enumerate(self.labels)),
            label2id=self._numbers,
        )
        refuse_longer(model, "finetune.max_length", self.max_length)
        return model

    def rows(self, split: str) -> Tokenized:
        table = read_arrow(self.examples.path / f"{split}.arrow")
        texts = table["text"].to_pylist()
        encoded = encode(self.tokenizer(), texts, self.max_length)
        return Tokenized(encoded, [self._numbers[label] for label in table["label"].to_pylist()])

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        batch = pad([row["input_ids"] for row in rows], self._pad_id)
        return {**batch, "labels": torch.tensor([row["label"] for row in rows])}

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    @functools.cached_property
    def _pad_id(self) -> int:
        return self.tokenizer().pad_token_id

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        labels = batch["labels"]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs).logits.float()
        smoothing = self.label_smoothing if model.training else 0.0
        loss = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        return loss, {"correct": (logits.argmax(-1) == labels).sum()}

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        return {
            "loss": sums["loss"] / sums["targets"],
            "accuracy": sums["correct"] / sums["targets"],
        }
