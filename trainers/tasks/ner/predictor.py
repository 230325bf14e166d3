"""A trained model that finds named entities."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from trainers.corpora.cleaning.beginning import aligned_beginning
from trainers.tasks import predictor
from trainers.tasks.encoding import InputText, beginning_of_raw
from trainers.tasks.ner.head import HEADS
from trainers.tasks.ner.windows import ScoredSpan, Windows, read_windows
from trainers.tasks.predictor import reading_of


class ScoredEntity(BaseModel):
    start: int
    """Its first character in the text as it was sent."""
    end: int
    """The character behind its last one."""
    text: str
    """These characters."""
    label: str
    score: float
    """How certain the model is, from 0 to 1."""


class Entities(predictor.Output):
    entities: list[ScoredEntity]
    """In the order of their places."""
    _certainty: float | None = None
    """Of the decoding; no part of what is answered."""


@dataclasses.dataclass(frozen=True)
class RawWindows(Windows):
    """With the text as it came, into which answers point."""

    raw: str

    @classmethod
    def of(cls, windows: Windows, raw: str) -> Self:
        fields = {one.name: getattr(windows, one.name) for one in dataclasses.fields(windows)}
        return cls(**fields, raw=raw)


class NerPredictor(predictor.Predictor):
    Input: ClassVar[Any] = InputText
    Output: ClassVar[type[predictor.Output]] = Entities
    inputs: ClassVar[str] = "texts"
    head: ClassVar[str] = "AutoModelForTokenClassification"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        super().__init__(card, tokenizer, model)
        self._labels: list[str] = card["labels"]
        self._head = HEADS[card["head"]](self._labels)
        # A first call sets how the tokenizer cuts. While one thread sets that, no other can encode.
        self.encode([""])

    def encode(self, inputs: Sequence[str]) -> list[RawWindows]:
        lengths = self.max_length, self.card["stride"], self.card["max_windows"]
        begin = beginning_of_raw(self.clean)
        read = read_windows(self.tokenizer, inputs, *lengths, begin)
        return [RawWindows.of(one, raw) for one, raw in zip(read, inputs, strict=True)]

    def forward(self, encoded: Sequence[RawWindows]) -> list[Entities]:
        logits = iter(self.logits([one.input_ids for each in encoded for one in each.windows]))
        return [self._decoded(each, [next(logits) for _ in each.windows]) for each in encoded]

    def _decoded(self, encoded: RawWindows, logits: Sequence[Any]) -> Entities:
        decoded = self._head.decode(logits, encoded.windows)
        output = Entities(entities=[*self._entities(encoded, decoded.spans)], **reading_of(encoded))
        output._certainty = decoded.certainty
        return output

    def _entities(self, encoded: RawWindows, spans: Sequence[ScoredSpan]) -> Iterator[ScoredEntity]:
        if not spans:
            return
        places = aligned_beginning(encoded.raw, self.clean, encoded.text)
        for span in spans:
            start, end = places.in_original(*encoded.characters(span.first, span.last))
            label, text = self._labels[span.label], encoded.raw[start:end]
            yield ScoredEntity(start=start, end=end, text=text, label=label, score=span.score)

    def input_of(self, row: Mapping[str, Any]) -> str:
        return row["text"]

    def certainty(self, output: Entities) -> float | None:
        """The probability of the least certain decision, that something is an entity or that it is
        none: so where no entity is found, how certain the model is of that."""
        return output._certainty

    def record(self, row: Mapping[str, Any], output: Entities) -> dict[str, Any]:
        return {
            "gold": row["entities"],
            "prediction": [one.model_dump(exclude={"text"}) for one in output.entities],
            "score": self.certainty(output),
        }

    def describe(self) -> dict[str, Any]:
        return {"labels": self._labels}
