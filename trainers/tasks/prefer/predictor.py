"""A model that says how probable it holds two answers, and so which of them it prefers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import BaseModel, BeforeValidator, model_validator

from trainers.corpora.cleaning.documents import Counts, Normalizer
from trainers.corpora.reading.formats.rows import Problem
from trainers.tasks import predictor
from trainers.tasks.conversations.messages import ASSISTANT, USER, Message, tools_of
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.encoding import Encoded
from trainers.tasks.predictor import reading_of
from trainers.tasks.prefer.log_probabilities import sequence_log_probabilities
from trainers.tasks.prefer.losses import Pairs, averages, kl_per_token, log_ratios, scores
from trainers.tasks.prefer.pairs import Sides, render_pair, sequence_batch, sides
from trainers.tasks.prefer.rows import PreferenceRows, conversations, said
from trainers.tasks.spec import REFERENCE

Both = tuple[float, float]
"""A number of the chosen answer, and the same of the rejected one."""


class PairInput(BaseModel):
    """Texts or messages, as in the rows of training."""

    prompt: Annotated[list[Message], BeforeValidator(said(USER))] | None = None
    """Where the answers do not begin with it."""
    chosen: Annotated[list[Message], BeforeValidator(said(ASSISTANT))]
    rejected: Annotated[list[Message], BeforeValidator(said(ASSISTANT))]
    system: str = ""
    tools: Annotated[str, BeforeValidator(tools_of)] = ""

    @model_validator(mode="after")
    def _is_a_pair(self) -> Self:
        found = conversations(self.row)
        if isinstance(found, Problem):
            raise ValueError(str(found))
        return self

    @property
    def row(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class Preference(predictor.Output):
    log_probabilities: Both
    """Of the chosen and the rejected answer, in nats, summed over an answer's tokens."""
    answer_tokens: tuple[int, int]
    margin: float | None
    """The reward of the chosen answer less that of the rejected one; None where rewards are against
    log-probabilities before training, which the model does not know."""


@dataclasses.dataclass(frozen=True)
class EncodedPair(Encoded):
    """A pair, whose `input_ids` are those of both its sequences."""

    sequences: Sides


class PreferPredictor(predictor.Predictor):
    Input: ClassVar[Any] = PairInput
    Output: ClassVar[type[predictor.Output]] = Preference
    inputs: ClassVar[str] = "pairs"
    head: ClassVar[str] = "AutoModelForCausalLM"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        super().__init__(card, tokenizer, model)
        self._renderer = Renderer(tokenizer)
        self._rows = PreferenceRows()

    def problem_of(self, value: PairInput) -> Problem | None:
        try:
            self._encoded(value)
        except NotRendered as error:
            return Problem("two answers that cannot be compared", str(error))
        return None

    def encode(self, inputs: Sequence[PairInput]) -> list[EncodedPair]:
        """Pairs as the model reads them: of a sequence over max_length the end, which has the
        answer."""
        return [*map(self._encoded, inputs)]

    def _encoded(self, value: PairInput) -> EncodedPair:
        row = self._rows.cleaned(value.row, Normalizer(self.clean, Counts()))
        pair = render_pair(self._renderer, row, self.max_length, "keep_end")
        columns = pair.columns()
        length = None if pair.is_cut else len(columns["input_ids"])
        return EncodedPair(columns["input_ids"], length, sides(columns))

    def forward(self, encoded: Sequence[EncodedPair]) -> list[Preference]:
        known = self._both([pair.sequences for pair in encoded])
        outputs = []
        for pair, policy in zip(encoded, known, strict=True):
            chosen, rejected = (int(sum(one["learned"])) for one in pair.sequences)
            tokens = chosen, rejected
            outputs.append(
                Preference(
                    log_probabilities=policy,
                    answer_tokens=tokens,
                    margin=self._margin(policy, None, tokens),
                    **reading_of(pair),
                )
            )
        return outputs

    def _margin(self, policy: Both, reference: Both | None, tokens: Both) -> float | None:
        if self.card["has_reference"] and reference is None:
            return None
        of_base = None if reference is None else _pair(reference)
        score = scores(self.card["loss"], _pair(policy), of_base, _pair(tokens))
        return self.card["beta"] * float(score.difference)

    @torch.inference_mode()
    def log_probabilities(self, sequences: Sequence[Mapping[str, Any]]) -> list[float]:
        """The log-probability of each sequence of `input_ids` and `learned`, in nats, summed over
        the tokens that are learned; by fewer at once from then on, where a GPU lacks memory."""

        def sums(places: list[int]) -> list[float]:
            some = [sequences[place] for place in places]
            batch = sequence_batch(some, is_packed=False, pad_id=self.tokenizer.pad_token_id)
            moved = {name: value.to(self.model.device) for name, value in batch.items()}
            found: list[float] = sequence_log_probabilities(self.model, moved).tolist()
            return found

        return self._limit.in_order(sums, [len(one["input_ids"]) for one in sequences])

    def references(self, rows: Sequence[Mapping[str, Any]], is_rendered: bool) -> list[Both | None]:
        """Log-probabilities of both answers of rows, of the stage `render` or of examples: what a
        base says before it is trained. None of a row that it cannot be asked."""
        read = sides if is_rendered else self._sequences
        pairs = [read(row) for row in rows]
        known = iter(self._both([pair for pair in pairs if pair is not None]))
        return [None if pair is None else next(known) for pair in pairs]

    def _sequences(self, row: Mapping[str, Any]) -> Sides | None:
        try:
            return self._encoded(PairInput.model_validate(self.input_of(row))).sequences
        except NotRendered:
            return None

    def _both(self, pairs: Sequence[Sides]) -> list[Both]:
        sums = self.log_probabilities([one for pair in pairs for one in pair])
        return [*zip(sums[::2], sums[1::2], strict=True)]

    def input_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        names = ("prompt", "chosen", "rejected", "system", "tools")
        return {name: row[name] for name in names if row.get(name) is not None}

    def record(self, row: Mapping[str, Any], output: Preference) -> dict[str, Any]:
        """Log-probabilities before training are the row's own, by the stage `reference`, or as
        evaluation asks for them."""
        policy, tokens = output.log_probabilities, output.answer_tokens
        reference = row.get(REFERENCE)
        margin = self._margin(policy, reference, tokens)
        assert margin is not None, "whoever evaluates asks the base before"
        per_token = averages(_pair(policy), _pair(tokens))
        record = {
            "gold": "chosen",
            "prediction": "chosen" if margin > 0 else "rejected",
            "score": 1 / (1 + math.exp(-abs(margin))),
            "margin": margin,
            "chosen_log_probability": float(per_token.chosen),
            "rejected_log_probability": float(per_token.rejected),
            "answer_tokens": sum(tokens),
        }
        if reference is None:
            return record
        before = averages(_pair(reference), _pair(tokens))
        kl = kl_per_token(log_ratios(_pair(policy), _pair(reference)), _pair(tokens))
        return {
            **record,
            "kl": float(kl),
            "chosen_reference": float(before.chosen),
            "rejected_reference": float(before.rejected),
        }


def _pair(both: Sequence[float]) -> Pairs:
    return Pairs(*torch.tensor(both, dtype=torch.float64))
