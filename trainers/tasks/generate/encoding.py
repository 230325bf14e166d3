"""Prompts and completions as token ids or as turns: the same for training, evaluation and an
endpoint."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cluster.errors import UserError
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.tasks.conversations.messages import USER, Message, message
from trainers.tasks.conversations.renderer import Rendered
from trainers.tasks.encoding import Beginning, Encoded, beginning_of_clean, encode
from trainers.tasks.generate.spec import PROMPT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Reading(NamedTuple):
    """How a model reads a prompt."""

    instruction: str
    """With PROMPT in it, once."""
    max_source_length: int
    """Tokens of the instruction with its prompt."""
    is_encoded: bool
    """Whether an encoder reads it, up to the token that ends a text; a decoder-only model goes on
    behind it."""


def encode_prompts(
    tokenizer: "PreTrainedTokenizerFast",
    prompts: Sequence[str],
    reading: Reading,
    beginning_of: Beginning = beginning_of_clean,
) -> list[Encoded]:
    """The ids of the instruction with each prompt. Of a long one the end of the prompt is not read;
    what the instruction has behind it is. Raises UserError where that alone is too long."""
    before, after = reading.instruction.split(PROMPT)

    def instructed(prompt: str, characters: int) -> tuple[str, bool]:
        begins, is_whole = beginning_of(prompt, characters)
        return f"{before}{begins}{after if is_whole else ''}", is_whole

    most, (leading, trailing) = reading.max_source_length, _special(tokenizer)
    behind = tokenizer(after, add_special_tokens=False).input_ids if after else []
    if len(behind) + leading + trailing >= most:
        raise UserError(
            f"finetune.max_source_length: {most} tokens have no room for a prompt: what the "
            f"instruction has behind it is {len(behind)}; set more"
        )
    encoded = []
    for one in encode(tokenizer, prompts, most, instructed):
        ids = [*one.input_ids]
        end = len(ids) - trailing
        ids, ending = ids[:end], ids[end:] if reading.is_encoded else []
        if one.is_cut:
            ids = ids[: end - len(behind)] + behind
        length = None if one.length is None else one.length - len(one.input_ids) + len(ids + ending)
        encoded.append(Encoded(ids + ending, length))
    return encoded


def prompt_message(prompt: str, instruction: str) -> Message:
    """The instruction with a prompt, as what a user says."""
    return message(USER, instruction.replace(PROMPT, prompt).strip())


def completion_ids(tokenizer: "PreTrainedTokenizerFast", completion: str) -> list[int]:
    """The token ids of a completion, with the token that ends a text, which is learned too."""
    encoded = tokenizer(completion, add_special_tokens=False, split_special_tokens=True)
    return [*encoded.input_ids, tokenizers.ends(tokenizer)[1]]


def one_sequence(prompt: Encoded, completion: Sequence[int]) -> Rendered:
    """A prompt and its completion as a decoder-only model reads them; the completion is learned."""
    learned = [False] * len(prompt.input_ids) + [True] * len(completion)
    return Rendered([*prompt.input_ids, *completion], learned)


def _special(tokenizer: "PreTrainedTokenizerFast") -> tuple[int, int]:
    """How many special tokens a tokenizer puts before a text, and behind it."""
    mask = tokenizer("a", return_special_tokens_mask=True).special_tokens_mask
    leading, trailing = (
        sum(1 for _ in itertools.takewhile(bool, marks)) for marks in (mask, reversed(mask))
    )
    return leading, trailing
