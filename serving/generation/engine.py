"""The engine on Transformers: a Batcher (trainers/tasks/writing/batcher.py) in a thread of its own,
whose tokens go to the event loop that asked for them."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence

from trainers.tasks.writing.batcher import Asked, Batcher, Lost, Step

log = logging.getLogger(__name__)


class Full(Exception):
    """As many answers wait as may."""


class Failed(Exception):
    """The model could not go on with an answer."""


class Writing:
    """One answer: its tokens as they come, to be read once, in the event loop that opened it."""

    def __init__(self, close: Callable[[], None]):
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[Step | Failed] = asyncio.Queue()

    def hear(self, step: Step | Failed) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._steps.put_nowait, step)

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Raises Failed."""
        finish = None
        while finish is None:
            step = await self._steps.get()
            if isinstance(step, Failed):
                raise step
            finish = step.finish_reason
            yield step

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._close()


class Engine:
    """Answers as many requests at once as the Batcher has rows; so many more wait."""

    def __init__(self, batcher: Batcher, most_waiting: int):
        self._batcher, self._most_waiting = batcher, most_waiting
        self._writings: dict[str, Writing] = {}
        """Those that are not closed, by id."""
        self._calls: list[Callable[[], None]] = []
        """What the thread does before its next step."""
        self._wake = threading.Condition()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    @property
    def in_flight(self) -> int:
        """Answers that are not closed."""
        return len(self._writings)

    def open(self, asked: Sequence[Asked]) -> list[Writing]:
        """Begins these answers, all of which the caller must close. Raises Full, and begins none,
        where they find no place."""
        most = self._batcher.most_rows + self._most_waiting
        if len(self._writings) + len(asked) > most:
            raise Full
        return [self._opened(one) for one in asked]

    def _opened(self, asked: Asked) -> Writing:
        self._writings[asked.id] = made = Writing(lambda: self._closed(asked.id))
        self._do(lambda: self._batcher.add(asked))
        return made

    def _closed(self, id_: str) -> None:
        if self._writings.pop(id_, None) is not None:
            self._do(lambda: self._batcher.cancel(id_))

    def _do(self, call: Callable[[], None]) -> None:
        with self._wake:
            self._calls.append(call)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._calls or self._batcher.is_busy)
                calls, self._calls = self._calls, []
            try:
                for call in calls:
                    call()
                steps = self._batcher.step()
            except Exception as error:  # whatever it is, the thread must go on for the others
                log.exception("a step failed; its answers are given up")
                failed = Failed(f"{type(error).__name__}: {error}")
                self._batcher.clear()
                for id_ in [*self._writings]:
                    self._tell(id_, failed)
                continue
            for step in steps:
                self._tell(step.id, Failed(str(step.error)) if isinstance(step, Lost) else step)

    def _tell(self, id_: str, step: Step | Failed) -> None:
        writing = self._writings.get(id_)
        if writing is not None:  # else nobody reads it any more
            writing.hear(step)
