"""From texts to token ids, and to batches of these: the same for training and for answers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator

from trainers.corpora.cleaning.beginning import beginning
from trainers.corpora.cleaning.config import Clean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

Computed = TypeVar("Computed")
FORWARD_TOKENS = {"cpu": 16 * 128, "cuda": 512 * 128}
"""Tokens that go through a model at once without gradients, with padding, at most: what keeps a
device busy, with activations that fit into the caches of a CPU, and the memory of the smallest
GPUs."""
CHARACTERS_PER_TOKEN = 16
"""Of a text so many characters a token are tokenized at first: few texts need more."""
LONGEST_WORD = 1 << 18
"""Characters: what follows a longer word of WordPiece is not read."""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"half of a surrogate pair at character {error.start}, which is no text without the "
            "other half"
        ) from None
    return text


InputText = Annotated[str, AfterValidator(_encodable)]
"""The type of an input that is a text."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids of an input, as the model reads them. A task that reads an input as several
    sequences has them in a subclass."""

    input_ids: Sequence[int]
    length: int | None
    """Tokens of the whole input; None where it was too long to be read to its end."""

    @property
    def is_cut(self) -> bool:
        return self.length != len(self.input_ids)


class Tokenized(NamedTuple):
    """What was read of a text, for tasks that point into it."""

    text: str
    """Its clean beginning."""
    encoding: Any
    """Of the library tokenizers: `ids`, and `offsets` in that beginning."""
    length: int | None
    """Tokens of the whole text, as in Encoded."""


Beginning = Callable[[str, int], tuple[str, bool]]
"""Gives so many clean characters of a text, or all, and whether that is all of it."""


def beginning_of_raw(clean: Clean) -> Beginning:
    """Gives the beginnings of texts that are not clean yet."""

    def begun(text: str, characters: int) -> tuple[str, bool]:
        begins, is_whole = beginning(text, clean, characters)
        return begins[:characters], is_whole and len(begins) <= characters

    return begun


def beginning_of_clean(text: str, characters: int) -> tuple[str, bool]:
    return text[:characters], len(text) <= characters


def encode_raw(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], max_length: int, clean: Clean
) -> list[Encoded]:
    """`encode` of texts that are not clean yet: the ids are those of cleaning the whole text."""
    return encode(tokenizer, texts, max_length, beginning_of_raw(clean))


def encode(
    tokenizer: "PreTrainedTokenizerFast",
    texts: Sequence[str],
    max_length: int,
    beginning_of: Beginning = beginning_of_clean,
) -> list[Encoded]:
    """Token ids of each text, cut to `max_length`; the names of special tokens are text."""
    tokenized = tokenize(tokenizer, texts, max_length, beginning_of)
    return [Encoded(one.encoding.ids, one.length) for one in tokenized]


def tokenize(
    tokenizer: "PreTrainedTokenizerFast",
    texts: Sequence[str],
    max_length: int,
    beginning_of: Beginning = beginning_of_clean,
) -> list[Tokenized]:
    """The tokens of each text, cut to `max_length`.

    The ids are those of tokenizing the whole text, up to a word that has no end. Of a long text
    only the beginning is tokenized, and more of it until the cut is certain: the time follows from
    `max_length`, not from the text.
    """
    done: dict[int, Tokenized] = {}
    characters = CHARACTERS_PER_TOKEN * max_length
    most = max(LONGEST_WORD, 16 * characters)
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
        for place, (text, is_whole), encoding in zip(places, beginnings, encodings, strict=True):
            behind = sum(len(chunk.ids) - special for chunk in encoding.overflowing)
            is_certain = behind >= max_length and _is_certain(encoding, words_are_whole)
            if is_whole or is_certain or characters >= most:
                length = len(encoding.ids) + behind if is_whole else None
                done[place] = Tokenized(text, encoding, length)
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


def pad(
    sequences: Sequence[Sequence[int]], pad_id: int, side: Literal["left", "right"] = "right"
) -> "dict[str, Tensor]":
    """`input_ids` and `attention_mask`, (sequences, longest)."""
    import torch

    longest = max(map(len, sequences))

    def padded(row: Sequence[int], value: int) -> list[int]:
        padding = [value] * (longest - len(row))
        return [*row, *padding] if side == "right" else [*padding, *row]

    ids = torch.tensor([padded(row, pad_id) for row in sequences])
    mask = torch.tensor([padded([1] * len(row), 0) for row in sequences])
    return {"input_ids": ids, "attention_mask": mask}


class TokenLimit:
    """How many tokens go through a model at once, with padding: half as many from then on, each
    time that a GPU lacks memory for them."""

    def __init__(self, tokens: int):
        self.tokens = tokens

    def within(
        self, compute: Callable[[list[list[int]]], Computed], lengths: Sequence[int]
    ) -> Computed:
        """What is computed of sequences of these lengths, by their places in each forward. Raises
        torch.OutOfMemoryError where there is no memory for the longest alone."""
        import torch

        while True:
            try:
                return compute(batches(lengths, self.tokens))
            except torch.OutOfMemoryError:
                if self.tokens <= max(lengths):
                    raise
            self.tokens //= 2  # here, where what the failed call held is gone

    def in_order(
        self, forward: Callable[[list[int]], Sequence[Computed]], lengths: Sequence[int]
    ) -> list[Computed]:
        """What `forward` says of each of these sequences, by their places in one batch."""

        def compute(groups: list[list[int]]) -> list[Computed]:
            by_place: dict[int, Computed] = {}
            for places in groups:
                by_place |= dict(zip(places, forward(places), strict=True))
            return [by_place[place] for place in range(len(lengths))]

        return self.within(compute, lengths)


def batches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Places of sequences by forwards: of similar length, and no more tokens than that, with
    padding, unless a single one has more."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * max(lengths[place], 1) <= most_tokens:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
