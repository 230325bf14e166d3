"""What the two routes have in common: choices of one request, made at once."""

import abc
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from serving.generation.answers import new_id, usage
from serving.generation.engine import Engine, Failed, Writing
from serving.generation.errors import Refused
from serving.generation.models import Served
from serving.generation.requests import Asking
from serving.generation.writing import Delta
from trainers.tasks.writing.batcher import Asked
from trainers.tasks.writing.sampling import Grammar

Body = TypeVar("Body", bound=Asking)


class Answer(abc.ABC, Generic[Body]):
    """Of one request that was found good, before a token of it is written."""

    prefix: str
    """Of its id."""

    def __init__(self, request: Body, served: Served, prompt: Sequence[int], context: int):
        """Raises Refused where the prompt leaves no room for an answer."""
        self.request, self.served = request, served
        self.writings: list[Writing] = []
        self.prompt, self._room = prompt, context - len(prompt)
        self.id, self.created = new_id(self.prefix), int(time.time())
        self.tokenizer = served.predictor.tokenizer
        if self._room < 1:
            raise Refused(
                400,
                f"the prompt has {len(prompt):,} tokens, and the model reads {context:,} with the "
                "answer; shorten it",
                self.prompt_key,
                "context_length_exceeded",
            )

    prompt_key: str
    """The key of the request that the prompt is made of."""

    def asked(self, choice: int, grammar: Grammar | None = None) -> Asked:
        """Raises Refused for a bias of what is no token."""
        try:
            sampling = self.request.sampling(choice)
        except ValueError as error:
            raise Refused(400, f"logit_bias: {error}", "logit_bias") from error
        size = self.served.predictor.model.config.get_text_config().vocab_size
        if any(not 0 <= token < size for token in sampling.logit_bias):
            raise Refused(400, f"logit_bias: tokens are 0 to {size - 1}", "logit_bias")
        return Asked(
            f"{self.id}/{choice}",
            self.prompt,
            frozenset(self.served.predictor.stop_ids),
            min(self.request.most_tokens or self._room, self._room),
            sampling,
            grammar,
            self.served.adapter,
        )

    @abc.abstractmethod
    def choices_asked(self) -> list[Asked]:
        """What the engine is asked for each choice."""

    def begin(self, engine: Engine) -> None:
        """To be closed afterwards. Raises Full."""
        self.writings = engine.open(self.choices_asked())

    def close(self) -> None:
        for one in self.writings:
            one.close()

    @abc.abstractmethod
    def deltas(self, choice: int) -> AsyncIterator[Delta]:
        """Of one choice."""

    @abc.abstractmethod
    async def whole(self) -> dict[str, Any]: ...

    @abc.abstractmethod
    def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The bodies of the events of a stream."""

    async def choices(self) -> list[list[Delta]]:
        """All of them. Raises Refused where the model fails."""
        made: list[list[Delta]] = [[] for _ in range(self.request.n)]
        try:
            async for choice, delta in self.mixed():
                made[choice].append(delta)
        except Failed as error:
            raise Refused(500, f"the model could not go on: {error}") from error
        return made

    async def mixed(self) -> AsyncIterator[tuple[int, Delta]]:
        """The deltas of all choices as they come. Raises what a choice raises."""
        queue: asyncio.Queue[tuple[int, Delta] | Exception | None] = asyncio.Queue()

        async def read(choice: int) -> None:
            try:
                async for delta in self.deltas(choice):
                    queue.put_nowait((choice, delta))
                queue.put_nowait(None)
            except Exception as error:  # noqa: BLE001  it is raised where it is read
                queue.put_nowait(error)

        tasks = [asyncio.create_task(read(choice)) for choice in range(self.request.n)]
        left = len(tasks)
        try:
            while left:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.version,
        }

    def usage(self, completion_tokens: int) -> dict[str, int]:
        return usage(len(self.prompt), completion_tokens)
