"""A trained classifier that answers."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from trainers.tasks import predictor
from trainers.tasks.encoding import Encoded, InputText, encode_raw
from trainers.tasks.predictor import reading_of


class Prediction(predictor.Output):
    label: str | list[str]
    """The most probable label; with several labels a text, all that reach the threshold."""
    probabilities: dict[str, float]
    """Of every label; they sum to one where a text has one label."""


class ClassifyPredictor(predictor.Predictor):
    Input: ClassVar[Any] = InputText
    Output: ClassVar[type[predictor.Output]] = Prediction
    inputs: ClassVar[str] = "texts"
    head: ClassVar[str] = "AutoModelForSequenceClassification"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        super().__init__(card, tokenizer, model)
        self._labels: list[str] = card["labels"]
        self._threshold: float | None = card.get("threshold")
        """None where a text has one label."""
        # A first call sets how the tokenizer cuts. While one thread sets that, no other can encode.
        self.encode([""])

    def encode(self, inputs: Sequence[str]) -> list[Encoded]:
        return encode_raw(self.tokenizer, inputs, self.max_length, self.clean)

    def forward(self, encoded: Sequence[Encoded]) -> list[Prediction]:
        logits = self.logits([one.input_ids for one in encoded])
        return [self._decoded(one, row) for one, row in zip(encoded, logits, strict=True)]

    def _decoded(self, encoded: Encoded, logits: Any) -> Prediction:
        has_several = self._threshold is not None
        values = (logits.sigmoid() if has_several else logits.softmax(-1)).tolist()
        known = dict(zip(self._labels, values, strict=True))
        label: str | list[str]
        if self._threshold is None:
            label = max(known, key=known.__getitem__)
        else:
            label = [one for one, value in known.items() if value >= self._threshold]
        return Prediction(label=label, probabilities=known, **reading_of(encoded))

    def input_of(self, row: Mapping[str, Any]) -> str:
        return row["text"]

    def certainty(self, output: Prediction) -> float:
        """The probability of the predicted label; with several labels a text, that of the least
        certain decision, to give a label or not to."""
        values = output.probabilities
        if isinstance(output.label, str):
            return values[output.label]
        return min(value if label in output.label else 1 - value for label, value in values.items())

    def record(self, row: Mapping[str, Any], output: Prediction) -> dict[str, Any]:
        return {"gold": row["label"], "prediction": output.label, "score": self.certainty(output)}

    def describe(self) -> dict[str, Any]:
        return {"labels": self._labels}
