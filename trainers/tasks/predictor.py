"""A trained model that answers: the same code for evaluation, batch scoring and the endpoint.

    predictor = load(folder, device)
    predictor.predict(["很好，非常满意！"])

The model's folder has all that an answer depends on: its cleaning, its tokenizer, its labels.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel

from cluster.lazy_import import lazy_import
from trainers.corpora.cleaning.beginning import beginning
from trainers.corpora.cleaning.config import Clean
from trainers.models.card import read_card
from trainers.tasks.registry import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORWARD_TOKENS = 64 * 128
"""Tokens that go through the model at once, with padding, at most."""
CHARACTERS_PER_TOKEN = 16
"""Of a text so many characters a token are tokenized at first: few texts need more."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids of an input, as the model reads them."""

    input_ids: Sequence[int]
    length: int | None
    """Tokens of the whole input; None where it was too long to be read to its end."""

    @property
    def is_cut(self) -> bool:
        return self.length != len(self.input_ids)


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

    @classmethod
    @abc.abstractmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """The model in a folder, in fp32, for inference."""

    @abc.abstractmethod
    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Cleans the inputs as the training data were, and tokenizes them."""

    @abc.abstractmethod
    def forward(self, encoded: Sequence[Encoded]) -> list[Any]:
        """An output for each encoded input, by forwards over inputs of similar length."""

    @abc.abstractmethod
    def input_of(self, row: Mapping[str, Any]) -> Any:
        """The input in a row of examples."""

    @abc.abstractmethod
    def record(self, row: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """What evaluation keeps of a row: `gold`, `prediction`, `score`, and what its figures need,
        as plain values."""

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        return self.forward(self.encode(inputs))

    def describe(self) -> dict[str, Any]:
        """What an endpoint tells of its model, beside name, version and task."""
        return {}


def load(folder: Path, device: str = "cpu") -> Predictor:
    """The Predictor of the model in a folder, by the task on its card."""
    section = TASKS[read_card(folder)["task"]]
    predictor: Predictor = lazy_import(section.predictor).load(folder, device)
    return predictor


def clean_of(card: Mapping[str, Any]) -> Clean:
    """The cleaning that a model's training data had."""
    return Clean.model_validate(card["clean"])


def encode_raw(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], max_length: int, clean: Clean
) -> list[Encoded]:
    """`encode` of texts that are not clean yet: the ids are those of cleaning the whole text."""
    return encode(tokenizer, texts, max_length, functools.partial(_beginning_of_raw, clean=clean))


def _beginning_of_raw(text: str, characters: int, clean: Clean) -> tuple[str, bool]:
    return beginning(text, clean, characters)


def _beginning_of_clean(text: str, characters: int) -> tuple[str, bool]:
    return text[:characters], len(text) <= characters


def encode(
    tokenizer: "PreTrainedTokenizerFast",
    texts: Sequence[str],
    max_length: int,
    beginning_of: Callable[[str, int], tuple[str, bool]] = _beginning_of_clean,
) -> list[Encoded]:
    """Token ids of each text, cut to `max_length`; the names of special tokens are text.

    The ids are those of tokenizing the whole text. Of a long one only the beginning is tokenized,
    and more of it until the cut is certain: the time follows from `max_length`, not from the text.
    `beginning_of` gives so many characters of a text or more, and whether that is all of it.
    """
    done: dict[int, Encoded] = {}
    characters = CHARACTERS_PER_TOKEN * max_length
    special = tokenizer.num_special_tokens_to_add()
    words_are_whole = type(tokenizer.backend_tokenizer.model).__name__ in ("WordPiece", "WordLevel")
    while len(done) < len(texts):
        places = [place for place in range(len(texts)) if place not in done]
        beginnings = [beginning_of(texts[place], characters) for place in places]
        encodings = tokenizer(
            [text for text, _ in beginnings],
            truncation=True,
            max_length=max_length,
            split_special_tokens=True,
        ).encodings
        for place, (_, is_whole), encoding in zip(places, beginnings, encodings, strict=True):
            behind = sum(len(chunk.ids) - special for chunk in encoding.overflowing)
            if is_whole or (behind >= max_length and _is_certain(encoding, words_are_whole)):
                length = len(encoding.ids) + behind if is_whole else None
                done[place] = Encoded(encoding.ids, length)
        characters *= 4
    return [done[place] for place in range(len(texts))]


def _is_certain(encoding: Any, words_are_whole: bool) -> bool:
    """Whether nothing that follows a text's beginning changes the tokens before the cut, when there
    are many behind it. A word of WordPiece is unknown as a whole if its end is, or is too far."""
    if not words_are_whole:
        return True
    words = [word for word in encoding.word_ids if word is not None]
    following = [word for word in encoding.overflowing[-1].word_ids if word is not None]
    return words[-1] != following[-1]


def batches(lengths: Sequence[int], most_tokens: int = FORWARD_TOKENS) -> list[list[int]]:
    """Places of inputs by forwards: of similar length, and no more tokens than that, with padding,
    unless a single input has more."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if found and (len(found[-1]) + 1) * max(lengths[place], 1) <= most_tokens:
            found[-1].append(place)
        else:
            found.append([place])
    return found
