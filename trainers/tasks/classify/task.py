"""Text classification in training: the cross-entropy of each text's label, or with several labels
the mean binary cross-entropy of all labels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from trainers.corpora.feeding.feed import Rows
from trainers.tasks.classify.predictor import ClassifyPredictor
from trainers.tasks.classify.spec import Classify
from trainers.tasks.encoding import encode, pad
from trainers.tasks.fine_tuning import LabelledFineTuning
from trainers.tasks.task import Batch, Counts, Guess

if TYPE_CHECKING:
    from transformers import PreTrainedModel

THRESHOLDS = torch.linspace(0.05, 0.95, 19)
"""Those that are tried for several labels."""


@dataclasses.dataclass(frozen=True)
class ClassifyTask(LabelledFineTuning):
    settings: Classify

    def model(self) -> "PreTrainedModel":
        kind = "multi" if self.settings.multi_label else "single"
        return self.build(
            ClassifyPredictor.head,
            problem_type=f"{kind}_label_classification",
            num_labels=len(self.labels),
            id2label=dict(enumerate(self.labels)),
            label2id=self.label_numbers,
        )

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        texts = [row["text"] for row in rows]
        encoded = encode(self.loaded_tokenizer, texts, self.settings.max_length)
        return [
            {"input_ids": one.input_ids, "label": self._numbered(row["label"])}
            for one, row in zip(encoded, rows, strict=True)
        ]

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        label: Any = [] if self.settings.multi_label else 0
        row = {"input_ids": [self.pad_id] * self.settings.max_length, "label": label}
        return [row] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        batch = pad([row["input_ids"] for row in rows], self.pad_id)
        labels = [row["label"] for row in rows]
        if not self.settings.multi_label:
            return {**batch, "labels": torch.tensor(labels)}
        hot = torch.zeros(len(rows), len(self.labels))
        for row, numbers_of_row in enumerate(labels):
            hot[row, numbers_of_row] = 1.0
        return {**batch, "labels": hot}

    def targets(self, batch: Batch) -> float:
        if self.settings.multi_label or self._weights is None:
            return len(batch["labels"])
        return float(self._weights[batch["labels"]].sum())

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        labels = batch["labels"]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs).logits.float()
        weights = None if self._weights is None else self._weights.to(logits.device)
        smoothing = self.settings.label_smoothing if model.training else 0.0
        if self.settings.multi_label:
            smoothed = labels * (1 - smoothing) + smoothing / 2
            loss = functional.binary_cross_entropy_with_logits(
                logits, smoothed, pos_weight=weights, reduction="none"
            )
            loss = loss.mean(-1).sum()
        else:
            loss = functional.cross_entropy(
                logits, labels, weight=weights, reduction="sum", label_smoothing=smoothing
            )
        return loss, {} if model.training else self._counts(logits, labels)

    def _counts(self, logits: Tensor, labels: Tensor) -> Counts:
        """By label, how often it is gold; by threshold and label, how often it is predicted, and
        rightly; by threshold, the texts that have all their labels right. A text with one label has
        the most probable one, whatever the threshold."""
        if self.settings.multi_label:
            thresholds = THRESHOLDS.to(logits.device)
            predicted = logits.sigmoid() >= thresholds[:, None, None]  # (thresholds, texts, labels)
            gold = labels > 0.5
        else:
            gold, chosen = (
                functional.one_hot(one, logits.shape[-1]).bool()
                for one in (labels, logits.argmax(-1))
            )
            predicted = chosen[None]
        return {
            "hit": (predicted & gold).sum(1),
            "predicted": predicted.sum(1),
            "gold": gold.sum(0),
            "all_right": (predicted == gold).all(-1).sum(-1),
            "texts": torch.tensor(len(gold)),
        }

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        hit, predicted, gold = counts["hit"], counts["predicted"], counts["gold"]
        micro = _f1(hit.sum(-1), predicted.sum(-1), gold.sum())
        equal = (micro == micro.max()).nonzero()[:, 0]
        best = int(equal[(THRESHOLDS[equal] - 0.5).abs().argmin()])
        # As scikit-learn's default, over labels that are gold or predicted.
        macro = _f1(hit[best], predicted[best], gold)[(predicted[best] + gold) > 0]
        threshold = {"threshold": round(float(THRESHOLDS[best]), 2)}
        return {
            "loss": float(counts["loss"] / counts["targets"]),
            "accuracy": float(counts["all_right"][best] / counts["texts"]),
            "micro_f1": float(micro[best]),
            "macro_f1": float(macro.mean()) if len(macro) else 0.0,
            **(threshold if self.settings.multi_label else {}),
        }

    def guess(self, validation: Rows) -> Guess:
        """Every text has the most frequent label; or, with several labels, all of them."""
        assert self.examples is not None
        report = self.examples.manifest.metrics["labels"]
        texts = {label: report.get(label, {}).get("validation", 0) for label in self.labels}
        if self.settings.multi_label:
            gold = sum(texts.values())
            share = 2 * gold / max(1, gold + len(self.labels) * len(validation))
            return Guess("micro_f1", share, "max", "what giving all labels to every text has")
        label = max(texts, key=texts.__getitem__)
        name = f"the share of the most frequent label, {label!r}"
        return Guess("accuracy", texts[label] / len(validation), "max", name)

    def _numbered(self, label: Any) -> Any:
        """The number of a label, or the numbers of a list of them."""
        if self.settings.multi_label:
            return [self.label_numbers[one] for one in label]
        return self.label_numbers[label]

    @functools.cached_property
    def _weights(self) -> Tensor | None:
        """Of each label, from how many training texts have it, repeated ones as often as they
        are."""
        if self.settings.class_weights == "none" or self.examples is None:
            return None
        report = self.examples.manifest.metrics
        by_label = report.get("balanced", report["labels"])
        texts = [by_label.get(label, {}).get("train", 0) for label in self.labels]
        counts = torch.tensor(texts, dtype=torch.float32).clamp(min=1)
        if self.settings.multi_label:
            return (report["train"] - counts).clamp(min=1) / counts
        return counts.sum() / (len(counts) * counts)


def _f1(hit: Tensor, predicted: Tensor, gold: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN); 0 where nothing is predicted and nothing is gold."""
    return 2 * hit / (predicted + gold).clamp(min=1)
