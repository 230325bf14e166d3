"""Named entity recognition in training: texts as windows, and the loss of one of two heads."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc
import torch
from torch import Tensor

from trainers.corpora.examples.stage import read_split
from trainers.corpora.feeding.feed import Rows
from trainers.corpora.tokens.pack import read_arrow
from trainers.tasks.encoding import pad
from trainers.tasks.fine_tuning import LabelledFineTuning
from trainers.tasks.flops import Cost
from trainers.tasks.ner.figures import keys, summary
from trainers.tasks.ner.head import HEADS, Head
from trainers.tasks.ner.predictor import NerPredictor
from trainers.tasks.ner.spec import Ner
from trainers.tasks.ner.windows import (
    NOWHERE,
    ScoredSpan,
    Span,
    Window,
    Windows,
    read_windows,
)
from trainers.tasks.task import Batch, Counts, Guess, lengths, tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_ROWS = 10_000
"""Of the training split, of which it is told what cannot be learned."""
ROWS_TOGETHER = 256


class Located(NamedTuple):
    """The entities of a text as spans of its tokens."""

    gold: list[Span]
    """All. One that no answer can equal is NOWHERE."""
    learned: list[Span]
    problems: list[str]
    """Of each entity that is not learned as it is."""


@dataclasses.dataclass(frozen=True)
class NerTask(LabelledFineTuning):
    settings: Ner

    def model(self) -> "PreTrainedModel":
        names = self.head.outputs
        return self.build(
            NerPredictor.head,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        encoded = []
        for row, windows in zip(rows, self._read(rows), strict=True):
            located = self._located(row["entities"], windows)
            labels = self.head.labelled(windows, located.learned)
            encoded.append({"windows": windows.windows, "labels": labels, "gold": located.gold})
        return encoded

    def length(self, row: Mapping[str, Any]) -> int:
        return sum(len(one.input_ids) for one in row["windows"])

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        length = self.settings.max_length
        window = Window([self.pad_id] * length, [*range(length)], 0, 2 * length)
        windows = [window] * self.settings.max_windows
        labels = [self.head.longest(one) for one in windows]
        return [{"windows": windows, "labels": labels, "gold": []}] * number

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """Of W windows: `row` (W,), whose they are; `places` (W, tokens) and `bounds` (W, 2), as a
        Window has them; `gold` (entities, 4): row, label, first and last token."""
        windows = [(number, one) for number, row in enumerate(rows) for one in row["windows"]]
        gold = [
            (number, one.label, one.first, one.last)
            for number, row in enumerate(rows)
            for one in row["gold"]
        ]
        return {
            **pad([one.input_ids for _, one in windows], self.pad_id),
            "places": pad([one.places for _, one in windows], NOWHERE)["input_ids"],
            "bounds": torch.tensor([(one.low, one.high) for _, one in windows]),
            "row": torch.tensor([number for number, _ in windows]),
            "gold": torch.tensor(gold, dtype=torch.long).reshape(-1, 4),
            **self.head.collate([one for row in rows for one in row["labels"]]),
        }

    def targets(self, batch: Batch) -> float:
        return self.head.targets(batch)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs).logits.float()
        loss = self.head.loss(logits, batch)
        return loss, {} if model.training else self._counts(logits, batch)

    def _counts(self, logits: Tensor, batch: Batch) -> Counts:
        """By label, the entities that are gold, that are predicted, and that are both."""
        batch = {name: value.cpu() for name, value in batch.items()}
        predicted = {
            (row, one.label, one.first, one.last)
            for row, spans in enumerate(self._decoded(logits.cpu(), batch))
            for one in spans
        }
        gold = [tuple(one) for one in batch["gold"].tolist()]
        counted = {"hit": predicted & {*gold}, "predicted": predicted, "gold": gold}
        return {
            name: torch.bincount(
                torch.tensor([label for _, label, *_ in spans], dtype=torch.long),
                minlength=len(self.labels),
            )
            for name, spans in counted.items()
        }

    def _decoded(self, logits: Tensor, batch: Batch) -> list[list[ScoredSpan]]:
        """Of each row."""
        windows = [
            Window([], places, *bounds)
            for places, bounds in zip(
                batch["places"].tolist(), batch["bounds"].tolist(), strict=True
            )
        ]
        of_rows = itertools.groupby(range(len(windows)), batch["row"].tolist().__getitem__)
        rows = [[*numbers] for _, numbers in of_rows]
        return [
            self.head.decode([*logits[row]], [windows[number] for number in row]).spans
            for row in rows
        ]

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        counted = {name: counts[name].tolist() for name in ("hit", "predicted", "gold")}
        computed = summary(**counted)
        return {
            **{name: float(computed[name]) for name in self.settings.test_metrics},
            "loss": float(counts["loss"] / counts["targets"]),
        }

    def guess(self, validation: Rows) -> Guess:
        assert self.examples is not None
        column = read_arrow(self.examples.path / "validation.arrow")["entities"]
        entities = pc.sum(pc.list_value_length(column)).as_py() or 0
        name = "what finding a single entity has"
        return Guess("span_f1", 2 / (1 + entities) if entities else 0.0, "max", name)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), tokens(batch))

    def unlearned(self) -> dict[str, int]:
        if self.examples is None:
            return {}
        columns = read_split(self.examples, "train", MOST_ROWS)
        rows = [
            {"text": text, "entities": entities}
            for text, entities in zip(columns["text"], columns["entities"], strict=True)
        ]
        counts = collections.Counter({"texts": len(rows), "entities": 0})
        for start in range(0, len(rows), ROWS_TOGETHER):
            some = rows[start : start + ROWS_TOGETHER]
            for row, windows in zip(some, self._read(some), strict=True):
                located = self._located(row["entities"], windows)
                counts["entities"] += len(located.gold)
                counts["texts longer than what is read"] += windows.is_cut
                counts.update(located.problems)
        return dict(+counts)

    def _read(self, rows: Sequence[Mapping[str, Any]]) -> list[Windows]:
        texts = [row["text"] for row in rows]
        settings = self.settings
        lengths = settings.max_length, settings.stride, settings.max_windows
        return read_windows(self.loaded_tokenizer, texts, *lengths)

    def _located(self, entities: Sequence[Mapping[str, Any]], windows: Windows) -> Located:
        located = Located([], [], [])
        spans: set[Span] = set()
        for start, end, label in sorted(keys(entities)):
            number = self.label_numbers[label]
            ends, problem = _placed(windows, start, end)
            first, last = ends if ends and problem is None else (NOWHERE, NOWHERE)
            located.gold.append(Span(first, last, number))
            located.problems.extend([problem] if problem else [])
            if ends is not None:
                spans.add(Span(*ends, number))
        learned = self.head.learnable(windows, sorted(spans))
        located.learned.extend(learned)
        located.problems.extend([self.head.not_learned] * (len(spans) - len(learned)))
        return located

    @functools.cached_property
    def head(self) -> Head:
        return HEADS[self.settings.head](self.labels)


def _placed(windows: Windows, start: int, end: int) -> tuple[tuple[int, int] | None, str | None]:
    """The first and the last token of an entity, if it is learned, and what is wrong with it. An
    edge inside a token is learned as the edge of that token; no answer can be equal."""
    ends = windows.located(start, end)
    if windows.is_cut and end > windows.visible.end:
        return None, "entities behind what is read"
    if ends is None:
        return None, "entities without a token"
    if windows.characters(*ends) != (start, end):
        return ends, "entities with an edge inside a token"
    return ends, None
