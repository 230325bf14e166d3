"""A trained model that answers: the same code for evaluation, batch scoring and the endpoint.

    predictor = load(folder, device)
    predictor.predict(["很好，非常满意！"])

The model's folder has all that an answer depends on: its cleaning, its tokenizer, its labels. On a
CPU a model answers in fp32. On a GPU it does in the 16 bits that it was trained in, by which its
validation was computed: twice as many answers a second, or more.
"""

import abc
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel
from torch import Tensor

from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.methods import loading
from trainers.models.card import read_card
from trainers.models.devices import multiplies_bf16
from trainers.models.published import refuse_other_bytes
from trainers.tasks.encoding import FORWARD_TOKENS, Encoded, TokenLimit, pad
from trainers.tasks.registry import TASKS

CPU = torch.device("cpu")


class Output(BaseModel):
    """What every answer says of how much of its input was read."""

    tokens: int
    """Tokens that the model read."""
    truncated: bool
    """Whether the input was longer than that, and cut."""


class Predictor(abc.ABC):
    """One loaded model. `predict` is `encode` and `forward`, which an endpoint calls apart, so that
    tokens are counted before they wait and requests share forwards."""

    Input: ClassVar[Any]
    """The type of an input, which pydantic checks."""
    Output: ClassVar[type[Output]]
    inputs: ClassVar[str]
    """What a request calls its list of inputs, such as `texts`."""
    head: ClassVar[str]
    """The class of Transformers that loads its model."""
    buffer_rows: ClassVar[int] = 2_048
    """Of a file, at most, that are sorted by length together and then answered."""

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        self.card, self.tokenizer, self.model = card, tokenizer, model
        self.clean = Clean.model_validate(card["clean"])
        """How its training data were cleaned."""
        self.max_length: int = card["max_length"]
        self._limit = TokenLimit(FORWARD_TOKENS[model.device.type])

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device = CPU,
        weights: Path | str | None = None,
        answering: Mapping[str, Any] | None = None,
    ) -> Self:
        """The model in a folder, for inference; if `weights` are given, with those of this folder
        or hub id, as of its base. Its card has `answering` in place of its own such keys."""
        card, place = {**read_card(folder), **(answering or {})}, weights or folder
        dtype = inference_dtype(card, device)
        model = loading.load(Path(place), cls.head_of(place), dtype)
        return cls(card, tokenizers.load(folder), model.eval().to(device))

    @classmethod
    def head_of(cls, place: Path | str) -> str:
        """The class of Transformers that loads the weights in a folder, where it depends on their
        architecture."""
        return cls.head

    def problem_of(self, value: Any) -> Problem | None:
        """Why the model cannot read an input, though it is of its type."""
        return None

    @abc.abstractmethod
    def encode(self, inputs: Sequence[Any]) -> list[Any]:
        """Cleans the inputs as the training data were, and tokenizes them: an Encoded of each."""

    @abc.abstractmethod
    def forward(self, encoded: Sequence[Any]) -> list[Any]:
        """An output for each encoded input."""

    @abc.abstractmethod
    def input_of(self, row: Mapping[str, Any]) -> Any:
        """The input in a row of examples."""

    @abc.abstractmethod
    def record(self, row: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """What evaluation keeps of a row: `gold`, `prediction`, `score`, and what its figures need,
        as plain values."""

    def certainty(self, output: Any) -> float | None:
        """How certain an output is, from 0 to 1, where one number says it."""
        return None

    def score(self, output: Any) -> float | None:
        """The certainty of an output. None where the input was empty, or became so by cleaning: the
        model read its special tokens alone, of which its answer says nothing."""
        is_empty = output.tokens <= self.tokenizer.num_special_tokens_to_add()
        return None if is_empty else self.certainty(output)

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        return self.forward(self.encode(inputs))

    def records(
        self, rows: Sequence[Mapping[str, Any]], outputs: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """The records of rows of examples and what was answered to them, with how much of each was
        read."""
        return [
            {**self.record(row, output), "tokens": output.tokens, "truncated": output.truncated}
            for row, output in zip(rows, outputs, strict=True)
        ]

    def cleaned(self, text: str) -> str:
        """A short text as it was in the training data; of a long one `encode_raw` cleans only as
        much as is read."""
        return normalize(text, self.clean)

    def describe(self) -> dict[str, Any]:
        """What an endpoint tells of its model, beside name, version and task."""
        return {}

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Of each sequence of token ids, on the CPU, by forwards over sequences of similar length:
        of fewer from then on, where a GPU lacks memory. What a model says of every token, it has
        for the padding too, at the end."""
        lengths = [*map(len, sequences)]
        return self._limit.within(lambda groups: self._logits(sequences, groups), lengths)

    @torch.inference_mode()
    def _logits(
        self, sequences: Sequence[Sequence[int]], groups: Sequence[list[int]]
    ) -> list[Tensor]:
        device = self.model.device
        by_place: dict[int, Tensor] = {}
        # Copied one forward later: a GPU computes a batch while the next one is padded, and holds
        # the logits of no more than two.
        before: tuple[list[int], Tensor] = ([], torch.empty(0))
        for places in groups:
            batch = pad([sequences[place] for place in places], self.tokenizer.pad_token_id)
            inputs = {name: value.to(device) for name, value in batch.items()}
            computed = places, self.model(**inputs).logits
            by_place |= _on_cpu(*before)
            before = computed
        by_place |= _on_cpu(*before)
        return [by_place[place] for place in range(len(sequences))]


def _on_cpu(places: Sequence[int], logits: Tensor) -> dict[int, Tensor]:
    return dict(zip(places, logits.cpu().float(), strict=True))


def reading_of(encoded: Encoded) -> dict[str, Any]:
    """The keys that every output has."""
    return {"tokens": len(encoded.input_ids), "truncated": encoded.is_cut}


def inference_dtype(card: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """The type in which a model answers."""
    precision = card.get("metrics", {}).get("precision")
    if device.type == "cpu":
        return torch.float32
    if precision == "bf16" and multiplies_bf16(device):
        return torch.bfloat16
    return torch.float16 if precision == "fp16" else torch.float32


def load(
    folder: Path,
    device: torch.device = CPU,
    hashes: Mapping[str, str] | None = None,
    weights: str | None = None,
    answering: Mapping[str, Any] | None = None,
) -> Predictor:
    """The Predictor of the model in a folder, by the task on its card; `weights` and `answering`
    are as in `Predictor.load`. Its files must have these sha256, by default those of its manifest,
    where it has one. Raises UserError where they are others, are no model, or are not on this node.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not on the node {platform.node()}; put the model where every node sees "
            "it, in a shared folder or at a URI"
        )
    refuse_other_bytes(folder, hashes)
    try:
        section = TASKS[read_card(folder)["task"]]
        kind: type[Predictor] = lazy_import(section.predictor)
        predictor = kind.load(folder, device, weights, answering)
    except (OSError, ValueError, LookupError) as error:  # a folder by hand may lack anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"{folder} cannot be loaded: {type(error).__name__}: {reason}") from error
    return predictor
