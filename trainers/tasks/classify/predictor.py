"""A trained classifier that answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import AfterValidator

from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.models.card import read_card
from trainers.models.lean_imports import transformers
from trainers.tasks import predictor
from trainers.tasks.classify.task import pad
from trainers.tasks.predictor import Encoded, batches, clean_of, encode_raw


def _encodable(text: str) -> str:
    text.encode()  # half of a surrogate pair, which JSON can hold, is no text
    return text


class Prediction(predictor.Output):
    label: str | list[str]
    """The most probable label; with several labels a text, all that reach the threshold."""
    probabilities: dict[str, float]
    """Of every label; they sum to one where a text has one label."""


class ClassifyPredictor(predictor.Predictor):
    Input: ClassVar[Any] = Annotated[str, AfterValidator(_encodable)]
    Output: ClassVar[type[predictor.Output]] = Prediction
    inputs: ClassVar[str] = "texts"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        self._clean = clean_of(card)
        self._labels: list[str] = card["labels"]
        self._max_length: int = card["max_length"]
        self._threshold: float | None = card.get("threshold")
        """None where a text has one label."""
        self._tokenizer, self._model = tokenizer, model
        # A first call sets how the tokenizer cuts. While one thread sets that, no other can encode.
        self.encode([""])

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        return cls(read_card(folder), tokenizers.load(folder), model.eval().to(device))

    def encode(self, inputs: Sequence[str]) -> list[Encoded]:
        return encode_raw(self._tokenizer, inputs, self._max_length, self._clean)

    @torch.inference_mode()
    def forward(self, encoded: Sequence[Encoded]) -> list[Prediction]:
        found: dict[int, Prediction] = {}
        for places in batches([len(one.input_ids) for one in encoded]):
            batch = pad(
                [encoded[place].input_ids for place in places], self._tokenizer.pad_token_id
            )
            inputs = {name: value.to(self._model.device) for name, value in batch.items()}
            logits = self._model(**inputs).logits.float()
            several = self._threshold is not None
            rows = (logits.sigmoid() if several else logits.softmax(-1)).tolist()
            for place, row in zip(places, rows, strict=True):
                found[place] = self._decoded(encoded[place], row)
        return [found[place] for place in range(len(encoded))]

    def _decoded(self, encoded: Encoded, probabilities: Sequence[float]) -> Prediction:
        known = dict(zip(self._labels, probabilities, strict=True))
        label: str | list[str]
        if self._threshold is None:
            label = max(known, key=known.__getitem__)
        else:
            label = [one for one, value in known.items() if value >= self._threshold]
        return Prediction(
            label=label,
            probabilities=known,
            tokens=len(encoded.input_ids),
            truncated=encoded.is_cut,
        )

    def input_of(self, row: Mapping[str, Any]) -> str:
        return row["text"]

    def record(self, row: Mapping[str, Any], output: Prediction) -> dict[str, Any]:
        """`score` is the probability of the predicted label; of several the least certain's."""
        values = output.probabilities
        if isinstance(output.label, str):
            score = values[output.label]
        else:
            score = min(max(value, 1 - value) for value in values.values())
        return {"gold": row["label"], "prediction": output.label, "score": score}

    def describe(self) -> dict[str, Any]:
        return {"labels": self._labels}
