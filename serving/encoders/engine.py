"""Load a model and answer texts. No Ray here, so that it is tested and measured by itself."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.models.card import read_card
from trainers.models.lean_imports import transformers
from trainers.tasks.classify import encode, probabilities

FORWARD_SIZE = 64
"""Texts that go through the model at once, at most."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    label: str
    probabilities: dict[str, float]


class Classifier:
    """Encodes, batches and decodes exactly as evaluation does."""

    def __init__(self, folder: Path):
        card = read_card(folder)
        self.labels: list[str] = card["labels"]
        self._max_length: int = card["max_length"]
        self._tokenizer = tokenizers.load(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        self._model = model.eval()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self._tokenizer, texts, self._max_length)

    def predict(self, input_ids: Sequence[Sequence[int]]) -> list[Prediction]:
        """A prediction for each encoded text, by forwards over texts of similar length."""
        found = probabilities(self._model, input_ids, FORWARD_SIZE)
        return [
            Prediction(
                self.labels[int(row.argmax())], dict(zip(self.labels, row.tolist(), strict=True))
            )
            for row in found
        ]
