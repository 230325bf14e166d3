"""What the user sees while a run goes on: a bar on a terminal, a line an interval elsewhere.

The terminal shows raymill's own few lines. Whatever Ray, DeepSpeed and Transformers print, from any
process and from C++ too, goes to the run's log: `Terminal.divert` points the process's file
descriptors 1 and 2 there and keeps the real ones for itself.

A stage reports through `Progress`. In this process that is a `Console`; processes elsewhere on the
cluster get `Relayed`, which sends events through one small actor that the driver drains.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

from tqdm import tqdm

INTERVAL_S = 10.0
"""At most one line an interval where no terminal shows a bar."""
LEFT_AFTER_S = 5.0
"""The time that is left is shown from then on."""
ARRIVAL_S = 10.0
"""A line from another process is waited for so long: without its driver nothing arrives."""


class Progress(Protocol):
    def line(self, text: str) -> None:
        """Something the user should read."""

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        """How far the stage has come: `3 of 20 parts cleaned`, or `40 %`; `metrics` are shown."""


class Silent:
    """A Progress that nobody sees: another one stands for it."""

    def line(self, text: str) -> None:
        pass

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        pass


class _Unheard(io.TextIOWrapper):
    """A stream to someone who may leave, as when a connection ends: that is to end no run."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)


class Terminal:
    """The process's real stdout and stderr, whatever becomes of file descriptors 1 and 2."""

    def __init__(self, out_is_json: bool = False) -> None:
        self.out: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        unbuffered: Any = os.fdopen(os.dup(2), "wb", buffering=0)  # nothing is left to be flushed
        self.err: TextIO = _Unheard(unbuffered, encoding="utf-8", write_through=True)
        self.out_is_json = out_is_json
        self.run: str | None = None
        self.log: Path | None = None
        """Of the run that is recorded, if there is one."""

    def answer(self, text: str) -> None:
        """What the user asked for: on stdout, or on stderr where stdout is for one JSON object."""
        (self.err if self.out_is_json else self.out).write(f"{text}\n")

    def divert(self, run: str, log: Path) -> None:
        """From now on, everything but `out` and `err` goes to the file `log` of the run."""
        self.run, self.log = run, log
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    @contextlib.contextmanager
    def hushed(self) -> Iterator[None]:
        """What libraries print to file descriptors 1 and 2 is dropped: no run has a log of it."""
        sys.stdout.flush()
        sys.stderr.flush()
        real = os.dup(1), os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            for descriptor in (1, 2):
                os.dup2(nowhere, descriptor)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, kept in zip((1, 2), real, strict=True):
                os.dup2(kept, descriptor)
            for descriptor in (nowhere, *real):
                os.close(descriptor)

    def close(self) -> None:
        """Drops what a full disk does not take of the log: Python would end with status 120."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Console:
    """Progress of one stage on the driver."""

    def __init__(self, terminal: Terminal, stage: str):
        self._err = terminal.err
        self._stage = stage
        self._bar: tqdm | None = None
        self._draws = self._err.isatty() and os.environ.get("TERM") != "dumb"
        self._unit, self._is_whole = "", False
        self._first: tuple[float, float] = (0.0, 0.0)
        """What the first update of this unit said was done, and when: the time left is counted from
        there, since what an earlier run had done took none of this one's time."""
        self._shown_at = time.monotonic()

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._err.write(f"{self._stage}: {text}\n")
        if self._bar is not None and self._bar.n < self._bar.total:
            self._bar.refresh()

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        now = time.monotonic()
        # All was done, and now is not: the next work of this unit has begun, such as a base that
        # answers the rows behind its model.
        is_new = unit != self._unit or (self._is_whole and done < total)
        self._unit, self._is_whole = unit, done >= total
        if is_new:
            self._first = done, now
        of = "%" if unit == "%" else f"of {short(total)} {unit}"
        parts = [f"{short(done)} {of}", *(labelled(*item) for item in metrics.items())]
        if self._draws:
            text = "  ".join(parts[1:] if unit == "%" else parts)
            self._draw(done, total, text, is_new)
        elif now - self._shown_at >= INTERVAL_S:
            self._shown_at = now
            first_done, began = self._first
            if done > first_done and now - began >= LEFT_AFTER_S:
                left = (now - began) / (done - first_done) * (total - done)
                parts.insert(1, f"{tqdm.format_interval(left)} left")
            self.line("  ".join(parts))

    def _draw(self, done: float, total: float, text: str, is_new: bool) -> None:
        if self._bar is None or is_new:
            self.close()
            self._bar = tqdm(
                desc=self._stage,
                initial=done,
                total=total,
                postfix=text,
                file=self._err,
                leave=False,
                miniters=0,
                smoothing=0,
                disable=False,  # whatever TQDM_DISABLE says, which is for the libraries' bars
                dynamic_ncols=True,  # a bar wider than the terminal would leave lines behind
                bar_format="{desc} {percentage:3.0f}%|{bar:10}| {elapsed} < {remaining}{postfix}",
            )
            return
        self._bar.total = total
        self._bar.set_postfix_str(text, refresh=False)
        if not self._bar.update(done - self._bar.n) and done >= total:
            self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Relayed:
    """Progress from any process of the cluster. A line has arrived when its call ends, so that what
    a process says last is not lost; updates are not waited for."""

    def __init__(self, relay: Any):
        self._relay = relay

    def line(self, text: str) -> None:
        import ray

        ray.wait([self._relay.put.remote(("line", (text,), {}))], timeout=ARRIVAL_S)

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        self._relay.put.remote(("update", (done, total, unit), metrics))


class _Relay:
    """The actor between workers and driver: a list."""

    def __init__(self) -> None:
        self._events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def put(self, event: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
        self._events.append(event)

    def drain(self) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        events, self._events = self._events, []
        return events


@contextlib.contextmanager
def relayed(progress: Progress) -> Iterator[Relayed]:
    """A picklable progress for other processes, forwarded to `progress` while the block runs."""
    import ray

    # On this node: the loss of another must not cut the line.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    relay: Any = ray.remote(num_cpus=0, label_selector=here)(_Relay).remote()
    stop = threading.Event()

    def forward() -> None:
        while True:
            last = stop.wait(0.3)
            for method, arguments, metrics in ray.get(relay.drain.remote()):
                getattr(progress, method)(*arguments, **metrics)
            if last:
                return

    thread = threading.Thread(target=forward, name="progress", daemon=True)
    thread.start()
    try:
        yield Relayed(relay)
    finally:
        stop.set()
        thread.join(timeout=5)
        ray.kill(relay)


def counted(number: int, noun: str, plural: str = "s") -> str:
    """`1 worker`, `2 workers`."""
    return f"{number:,} {noun}{plural if number != 1 else ''}"


def labelled(name: str, value: float | str) -> str:
    """A metric as people read it: `tokens/s 1,234`."""
    return f"{name.replace('_per_second', '/s').replace('_', ' ')} {short(value)}"


def short(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value
