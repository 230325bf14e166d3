"""A second task, as one would add it: a tag for every word of a sentence.

All that classification is not: rows have columns of their own and no label; a long sentence is
several sequences; the loss is of tokens; the metric is its own.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from torch import Tensor
from torch.nn import functional

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from trainers.corpora.examples.task_rows import Role
from trainers.corpora.feeding.feed import Rows
from trainers.corpora.tokens.pack import read_arrow
from trainers.tasks import predictor
from trainers.tasks.encoding import Encoded, pad
from trainers.tasks.fine_tuning import EncodedFineTuning
from trainers.tasks.flops import Cost
from trainers.tasks.predictor import reading_of
from trainers.tasks.pretraining.config import ENCODING
from trainers.tasks.spec import Metric, TaskSection
from trainers.tasks.tally import Tally
from trainers.tasks.task import IGNORED, Batch, Counts, Guess, lengths, tokens

OUTSIDE = "O"


class Tag(TaskSection):
    implementation: ClassVar[str] = "tests.tagging:TagTask"
    predictor: ClassVar[str] = "tests.tagging:TagPredictor"
    figures: ClassVar[str] = "tests.tagging:figures"
    tally: ClassVar[str] = "tests.tagging:tally"
    roles: ClassVar[Mapping[str, Role]] = {
        "tokens": Role("value", "the words of a sentence", list[str]),
        "tags": Role("value", "a tag of each", list[str]),
    }
    objectives: ClassVar[tuple[str, ...]] = ENCODING
    route: ClassVar[str] = "/v1/tag"
    sample: ClassVar[Mapping[str, Any]] = {"tokens": ["Anna", "sings"]}
    metrics: ClassVar[Mapping[str, Metric]] = {
        "tag_f1": Metric("max", "tag F1"),
        "loss": Metric("min", "loss", highest=math.inf),
    }

    task: Literal["tag"] = "tag"
    stride: int = 4
    """Tokens that two sequences of a sentence share."""
    headline: ClassVar[str] = "tag_f1"  # type: ignore[misc, assignment]
    validation_metrics: ClassVar[tuple[str, ...]] = ("tag_f1", "loss")  # type: ignore[misc, assignment]
    test_metrics: ClassVar[tuple[str, ...]] = ("tag_f1",)  # type: ignore[misc, assignment]

    def cleaned(self, row: Mapping[str, Any], clean: Callable[[str], str]) -> dict[str, Any]:
        return {**row, "tokens": [clean(word) for word in row["tokens"]]}

    def text_of(self, row: Mapping[str, Any]) -> str:
        return " ".join(row["tokens"])

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"sentences": [row["tokens"] for row in rows]}

    def refuse_examples(self, examples: Artifact) -> None:
        if len(tags_of(examples)) < 2:
            raise UserError("corpora.sources: a tagger needs two tags or more")

    def card(self, examples: Artifact, metrics: Mapping[str, Any]) -> dict[str, Any]:
        known = {"tags": tags_of(examples), "stride": self.stride}
        return {**super().card(examples, metrics), **known}


def tags_of(examples: Artifact) -> list[str]:
    tags = read_arrow(examples.path / "train.arrow")["tags"]
    return sorted(set(pc.list_flatten(tags).to_pylist()))


@dataclasses.dataclass(frozen=True)
class Windows(Encoded):
    """A sentence as several sequences, which overlap."""

    sequences: list[list[int]]
    firsts: list[list[tuple[int, int]]]
    """Of each sequence: (place in it, word) of the first tokens of the words that it decides."""


def windows(tokenizer: Any, words: Sequence[str], max_length: int, stride: int) -> Windows:
    pieces, starts = [], []
    for word in words:
        starts.append(len(pieces))
        pieces += tokenizer(word, add_special_tokens=False)["input_ids"]
    step, room = max_length - 2 - stride, max_length - 2
    sequences, firsts = [], []
    for begin in range(0, max(1, len(pieces) - stride), step):
        inside = pieces[begin : begin + room]
        sequences.append([tokenizer.cls_token_id, *inside, tokenizer.sep_token_id])
        new = begin + (stride if begin else 0)  # what is before was in the last one
        owned = [(n, at) for n, at in enumerate(starts) if new <= at < begin + room]
        firsts.append([(at - begin + 1, n) for n, at in owned])
    return Windows(pieces, len(pieces), sequences, firsts)


@dataclasses.dataclass(frozen=True)
class TagTask(EncodedFineTuning):
    settings: Tag

    def model(self) -> Any:
        return self.build(
            TagPredictor.head, num_labels=len(self._tags), id2label=dict(enumerate(self._tags))
        )

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            stride, length = self.settings.stride, self.settings.max_length
            encoded = windows(self.loaded_tokenizer, row["tokens"], length, stride)
            labels = [[IGNORED] * len(one) for one in encoded.sequences]
            for of_sequence, firsts in zip(labels, encoded.firsts, strict=True):
                for place, word in firsts:
                    of_sequence[place] = self._tags.index(row["tags"][word])
            found.append({"sequences": encoded.sequences, "labels": labels})
        return found

    def length(self, row: Mapping[str, Any]) -> int:
        return sum(map(len, row["sequences"]))

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        ids = [self.pad_id] * self.settings.max_length
        return [{"sequences": [ids], "labels": [[0] * len(ids)]}] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        batch = pad([one for row in rows for one in row["sequences"]], self.pad_id)
        labels = pad([one for row in rows for one in row["labels"]], IGNORED)["input_ids"]
        return {**batch, "labels": labels}

    def targets(self, batch: Batch) -> float:
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Counts]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits, labels = model(**inputs).logits.float(), batch["labels"]
        loss = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if model.training:
            return loss, {}
        outside = self._tags.index(OUTSIDE)
        given = (logits.argmax(-1) != outside) & (labels != IGNORED)
        gold = (labels != outside) & (labels != IGNORED)
        hit = (logits.argmax(-1) == labels) & gold
        return loss, {"hit": hit.sum(), "given": given.sum(), "gold": gold.sum()}

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        f1 = 2 * counts["hit"] / (counts["given"] + counts["gold"]).clamp(min=1)
        return {"loss": float(counts["loss"] / counts["targets"]), "tag_f1": float(f1)}

    def guess(self, validation: Rows) -> Guess:
        return Guess("loss", math.log(len(self._tags)), "min", "every tag as likely as any")

    def flops(self, model: Any) -> Callable[[Batch], float]:
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), tokens(batch))

    @functools.cached_property
    def _tags(self) -> list[str]:
        return [OUTSIDE, "X"] if self.examples is None else tags_of(self.examples)


class Tagged(predictor.Output):
    tags: list[str]


class TagPredictor(predictor.Predictor):
    Input: ClassVar[Any] = list[str]
    Output: ClassVar[type[predictor.Output]] = Tagged
    inputs: ClassVar[str] = "sentences"
    head: ClassVar[str] = "AutoModelForTokenClassification"

    def encode(self, inputs: Sequence[Sequence[str]]) -> list[Windows]:
        return [
            windows(
                self.tokenizer,
                [self.cleaned(word) for word in words],
                self.max_length,
                self.card["stride"],
            )
            for words in inputs
        ]

    def forward(self, encoded: Sequence[Windows]) -> list[Tagged]:
        found = iter(self.logits([one for each in encoded for one in each.sequences]))
        outputs = []
        for each in encoded:
            tags = {
                word: self.card["tags"][int(logits[place].argmax())]
                for firsts, logits in zip(each.firsts, found, strict=False)
                for place, word in firsts
            }
            outputs.append(Tagged(tags=[tags[n] for n in sorted(tags)], **reading_of(each)))
        return outputs

    def input_of(self, row: Mapping[str, Any]) -> list[str]:
        return row["tokens"]

    def record(self, row: Mapping[str, Any], output: Tagged) -> dict[str, Any]:
        return {"gold": row["tags"], "prediction": output.tags, "words": len(row["tags"])}


def figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**tally(records).figures(), "words": sum(one["words"] for one in records)}


def tally(records: Sequence[Mapping[str, Any]]) -> Tally:
    """Of each record, tags that are hit, and those that are given or gold."""
    counts = []
    for one in records:
        pairs = [*zip(one["gold"], one["prediction"], strict=True)]
        hit = sum(gold == given != OUTSIDE for gold, given in pairs)
        counts.append((hit, sum((gold != OUTSIDE) + (given != OUTSIDE) for gold, given in pairs)))
    wrong = [one["gold"] != one["prediction"] for one in records]
    return Tally(
        np.array(counts, np.float64),
        lambda sums: {"tag_f1": 2 * sums[..., 0] / np.maximum(sums[..., 1], 1)},
        np.array(wrong, np.float64),
    )
