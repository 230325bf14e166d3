"""Continuous batching: answers join and leave between the steps of one model.

    batcher = Batcher(model, rows=8)
    batcher.add(Asked("a", prompt_ids, stop_ids, most_new_tokens=64))
    while batcher.is_busy:
        for step in batcher.step():        # a token of each answer
            ...

Transformers' own continuous batching draws by temperature, top-k and top-p alone: it knows neither
seeds, nor grammars, nor several adapters in a batch (transformers 5.19,
generation/continuous_batching/cb_logits_processors.py), which an endpoint needs.
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainers.tasks.writing.decoding import FinishReason
from trainers.tasks.writing.sampling import Drawn, Grammar, Sampling, draw, generator, greedy
from trainers.tasks.writing.slots import Slots, hold_in_slots

BASE = "__base__"
"""By what name PEFT knows the base without an adapter."""
PROMPT_TOKENS = {"cpu": 512, "cuda": 8192}
"""Of prompts that are read between two steps, for which the answers in progress wait."""


@dataclasses.dataclass(frozen=True)
class Asked:
    id: str
    prompt: Sequence[int]
    """Token ids."""
    stop_ids: Collection[int]
    most_new_tokens: int
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    grammar: Grammar | None = None
    adapter: str | None = None
    """Of a PEFT model, the adapter that answers; None is the base."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One token of an answer. The one that ends it is a stop id."""

    id: str
    drawn: Drawn
    finish_reason: FinishReason | None


@dataclasses.dataclass(frozen=True)
class Lost:
    """An answer that cannot be begun."""

    id: str
    error: Exception


Ready = Callable[[str, Collection[str]], bool]
"""Has an adapter loaded, while those that are given are in use; False where it must wait for one of
them. Raises what keeps it from being loaded."""


@dataclasses.dataclass
class _Row:
    asked: Asked
    random: torch.Generator
    written: list[int] = dataclasses.field(default_factory=list)

    @property
    def length(self) -> int:
        """Of what is read: all but the last token that is written."""
        return len(self.asked.prompt) + len(self.written) - 1


class Batcher:
    """Not safe for threads. Raises ValueError for a model whose sequences it cannot hold."""

    def __init__(self, model: Any, rows: int, ready: Ready | None = None):
        """At most so many answers are written at once. `ready` is asked before an answer of an
        adapter begins; without it all adapters are there."""
        self._model, self.most_rows, self._ready = model, rows, ready
        self._config = model.config.get_text_config()
        hold_in_slots(model)
        self._waiting: deque[Asked] = deque()
        self._rows: list[_Row] = []
        self._slots = self._empty()

    def _empty(self) -> Slots:
        return Slots(self._config.num_hidden_layers, self.most_rows)

    def add(self, asked: Asked) -> None:
        self._waiting.append(asked)

    @torch.inference_mode()  # in which the slots were made
    def cancel(self, id_: str) -> None:
        """Where it is there still."""
        self._waiting = deque(one for one in self._waiting if one.id != id_)
        for row in [row for row in self._rows if row.asked.id == id_]:
            self._leave(row)

    def clear(self) -> list[str]:
        """Drops all answers, as where a step has failed; those that were there."""
        dropped = [*(row.asked.id for row in self._rows), *(one.id for one in self._waiting)]
        self._rows, self._slots = [], self._empty()
        self._waiting.clear()
        return dropped

    @property
    def is_busy(self) -> bool:
        return bool(self._rows or self._waiting)

    @property
    def counts(self) -> tuple[int, int]:
        """How many answers are written, and how many wait."""
        return len(self._rows), len(self._waiting)

    @torch.inference_mode()
    def step(self) -> list[Step | Lost]:
        """A token of each answer that is being written, and the first one of those that join."""
        written = self._continue() if self._rows else []
        return [*written, *self._join()]

    def _leave(self, row: _Row) -> None:
        place, last = self._rows.index(row), len(self._rows) - 1
        self._slots.leave(place, last)
        self._rows[place] = self._rows[last]
        self._rows.pop()

    def _continue(self) -> list[Step]:
        rows = [*self._rows]
        ids = torch.tensor([[row.written[-1]] for row in rows])
        positions = torch.tensor([[row.length] for row in rows])
        logits = self._forward(0, ids, positions, [row.asked.adapter for row in rows])
        return self._drawn(rows, logits)

    def _join(self) -> Iterator[Step | Lost]:
        left = PROMPT_TOKENS[self._model.device.type]
        while self._waiting and len(self._rows) < self.most_rows and left > 0:
            try:
                if not self._is_ready(self._waiting[0]):
                    return  # it is the next one: those behind it wait, too
            except Exception as error:  # noqa: BLE001  it is of this answer alone
                yield Lost(self._waiting.popleft().id, error)
                continue
            asked = self._waiting.popleft()
            left -= len(asked.prompt)
            row = _Row(asked, generator(asked.sampling))
            ids = torch.tensor([asked.prompt])
            positions = torch.arange(len(asked.prompt))[None]
            logits = self._forward(len(self._rows), ids, positions, [asked.adapter])
            self._rows.append(row)
            yield from self._drawn([row], logits)

    def _is_ready(self, asked: Asked) -> bool:
        if self._ready is None or asked.adapter is None:
            return True
        in_use = {row.asked.adapter for row in self._rows if row.asked.adapter is not None}
        return asked.adapter in in_use or self._ready(asked.adapter, in_use)

    def _forward(
        self, first: int, ids: Tensor, positions: Tensor, adapters: Sequence[str | None]
    ) -> Tensor:
        """The logits of the last token of each row, [rows, vocabulary]."""
        device = self._model.device
        ids, positions = ids.to(device), positions.to(device)
        self._slots.read(first, positions)
        named: dict[str, Any] = {}
        if any(adapters):
            named["adapter_names"] = [adapter or BASE for adapter in adapters]
        with self._of_base(adapters):
            made = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=self._slots.masks(self._config),
                past_key_values=self._slots,
                use_cache=True,
                logits_to_keep=1,
                **named,
            )
        logits: Tensor = made.logits[:, -1]
        return logits

    @contextlib.contextmanager
    def _of_base(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """PEFT takes the adapter that is active where none is named."""
        if any(adapters) or not hasattr(self._model, "disable_adapter"):
            yield
            return
        with self._model.disable_adapter():
            yield

    def _drawn(self, rows: Sequence[_Row], logits: Tensor) -> list[Step]:
        sampling = [row.asked.sampling for row in rows]
        plain = greedy(logits, sampling, [row.asked.grammar for row in rows])
        steps = []
        for place, row in enumerate(rows):
            asked = row.asked
            drawn = (
                Drawn(plain[place])
                if plain is not None
                else draw(logits[place], asked.sampling, row.random, row.written, asked.grammar)
            )
            row.written.append(drawn.token)
            reason: FinishReason | None = None
            if drawn.token in asked.stop_ids:
                reason = "stop"
            elif len(row.written) >= asked.most_new_tokens:
                reason = "length"
            if reason is not None:
                self._leave(row)
            steps.append(Step(asked.id, drawn, reason))
        return steps
