"""A trained model that writes its answers."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from cluster.errors import UserError
from trainers.models.build import positions_of
from trainers.tasks import predictor
from trainers.tasks.conversations.renderer import Rendered
from trainers.tasks.encoding import Encoded
from trainers.tasks.predictor import reading_of
from trainers.tasks.task import IGNORED
from trainers.tasks.writing.decoding import FinishReason, Writer
from trainers.tasks.writing.forced import forced
from trainers.tasks.writing.likeness import likeness


class Answer(predictor.Output):
    text: str
    finish_reason: FinishReason
    """`stop` where the model ended its answer, `length` where it was as long as it may be."""
    new_tokens: int
    """Of the answer."""


class Truth(NamedTuple):
    """The true answer of a row of examples."""

    prompt: str
    """What the model is asked, for people."""
    gold: str
    """The true answer."""
    learned: Mapping[str, Sequence[int]]
    """`input_ids` and `labels` of the row, as in training."""


class WritingPredictor(predictor.Predictor):
    """A Predictor whose `encode` gives the token ids of prompts, which the model answers."""

    Output: ClassVar[type[predictor.Output]] = Answer
    buffer_rows: ClassVar[int] = 256  # an answer takes seconds on a CPU

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        super().__init__(card, tokenizer, model)
        most_new = card["most_new_tokens"]
        self._most_prompt_tokens = _most_prompt_tokens(model, self.max_length, most_new)
        self._pad_id = (
            self.stop_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )
        self._writer = Writer(model, self.stop_ids, self._pad_id, most_new)

    @property
    @abc.abstractmethod
    def stop_ids(self) -> Sequence[int]:
        """Tokens of which any ends an answer, which is then taken for whole."""

    @abc.abstractmethod
    def truth(self, row: Mapping[str, Any]) -> Truth:
        """The true answer of a row of examples."""

    def read(self, prompt: Sequence[int]) -> Encoded:
        """A prompt as the model reads it: of one that is too long the end, which is what is to be
        answered."""
        return Encoded(prompt[-self._most_prompt_tokens :], len(prompt))

    def forward(self, encoded: Sequence[Encoded]) -> list[Answer]:
        written = self._writer.write([one.input_ids for one in encoded])
        return [
            Answer(
                text=self.text_of(one.ids),
                finish_reason=one.finish_reason,
                new_tokens=len(one.ids),
                **reading_of(prompt),
            )
            for prompt, one in zip(encoded, written, strict=True)
        ]

    def text_of(self, ids: Sequence[int]) -> str:
        """An answer, as people read it."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    def record(self, row: Mapping[str, Any], output: Answer) -> dict[str, Any]:
        truth = self.truth(row)
        return {
            "prompt": truth.prompt,
            "gold": truth.gold,
            "prediction": output.text,
            "finish_reason": output.finish_reason,
            "new_tokens": output.new_tokens,
            **likeness(truth.gold, output.text),
        }

    def records(
        self, rows: Sequence[Mapping[str, Any]], outputs: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """The records, with how probable the model holds the true answers, as far as it has
        positions."""
        most = None if self.model.config.is_encoder_decoder else positions_of(self.model)
        learned = [
            {name: ids[:most] for name, ids in self.truth(row).learned.items()} for row in rows
        ]
        sums = forced(self.model, learned, self._pad_id)
        return [
            {**record, **of_row._asdict()}
            for record, of_row in zip(super().records(rows, outputs), sums, strict=True)
        ]


def learned_of(rendered: Rendered) -> dict[str, list[int]]:
    """The `input_ids` and `labels` of a sequence of a decoder-only model."""
    marked = zip(rendered.input_ids, rendered.learned, strict=True)
    labels = [one if is_learned else IGNORED for one, is_learned in marked]
    return {"input_ids": rendered.input_ids, "labels": labels}


def _most_prompt_tokens(model: Any, max_length: int, most_new_tokens: int) -> int:
    """How many tokens of a prompt leave room for an answer. Raises UserError where none do."""
    positions = positions_of(model)
    if positions is None or model.config.is_encoder_decoder:
        return max_length
    if most_new_tokens >= positions:
        raise UserError(
            f"most_new_tokens: {most_new_tokens} leaves no room for a prompt in the {positions} "
            "positions of the model"
        )
    return min(max_length, positions - most_new_tokens)
