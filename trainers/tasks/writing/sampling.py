"""The next token of each row of a batch, drawn as its request says."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Grammar(Protocol):
    """What an answer must be, token by token."""

    def mask(self, logits: Tensor) -> None:
        """Sets the logits of tokens, [vocabulary], that cannot come next to minus infinity."""

    def accept(self, token: int) -> None:
        """Takes the next token."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, as OpenAI's API has it."""

    temperature: float = 0.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    """Only the most probable tokens that together have this probability."""
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    logprobs: int | None = None
    """So many of the most probable tokens are told beside each; None tells none, nor its own."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A token, and how probable the model held it before temperature, penalties and grammar."""

    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()
    """The most probable tokens with their log-probabilities, in nats."""


def generator(sampling: Sampling) -> torch.Generator:
    """The random numbers of one answer, on the CPU: its neighbours in a batch change none."""
    drawn = torch.Generator()
    if sampling.seed is None:
        drawn.seed()
    else:
        drawn.manual_seed(sampling.seed)
    return drawn


def draw(
    logits: Tensor,
    sampling: Sampling,
    random: torch.Generator,
    written: Sequence[int],
    grammar: Grammar | None = None,
) -> Drawn:
    """The token behind those `written`, from the logits, [vocabulary], of one row."""
    told = _logprobs(logits, sampling.logprobs)
    scores = _adjusted(logits.float(), sampling, written, grammar)
    if sampling.temperature == 0:
        token = int(scores.argmax())
    else:
        token = _sampled(scores / sampling.temperature, sampling.top_p, random)
    if grammar is not None:
        grammar.accept(token)
    if told is None:
        return Drawn(token)
    values, top = told
    return Drawn(token, float(values[token]), top)


def _logprobs(
    logits: Tensor, count: int | None
) -> tuple[Tensor, Sequence[tuple[int, float]]] | None:
    if count is None:
        return None
    values = logits.float().log_softmax(-1)
    best = values.topk(count)
    return values, [*zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def _adjusted(
    scores: Tensor, sampling: Sampling, written: Sequence[int], grammar: Grammar | None
) -> Tensor:
    has_penalty = sampling.presence_penalty or sampling.frequency_penalty
    if not (has_penalty or sampling.logit_bias or grammar):
        return scores
    scores = scores.clone()
    if has_penalty and written:
        ids, counts = torch.tensor(written, device=scores.device).unique(return_counts=True)
        scores[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    for token, bias in sampling.logit_bias.items():
        scores[token] += bias
    if grammar is not None:
        grammar.mask(scores)
    return scores


def _sampled(scores: Tensor, top_p: float, random: torch.Generator) -> int:
    """Nucleus sampling (Holtzman et al. 2020)."""
    probable = scores.softmax(-1).cpu()
    if top_p < 1:
        values, ids = probable.sort(descending=True)
        is_in = values.cumsum(0) - values < top_p  # the first one always is
        place = int(torch.multinomial(values * is_in, 1, generator=random))
        return int(ids[place])
    return int(torch.multinomial(probable, 1, generator=random))


def greedy(
    logits: Tensor, sampling: Sequence[Sampling], grammars: Sequence[Any]
) -> list[int] | None:
    """The tokens of a batch whose rows all take the most probable one and tell nothing more: by
    one kernel. None of another batch."""
    is_plain = all(one == Sampling(seed=one.seed) for one in sampling) and not any(grammars)
    return logits.argmax(-1).tolist() if is_plain else None
