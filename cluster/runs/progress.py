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
"""The time that is left is told from then on."""
REDRAW_S = 0.1
"""A bar is drawn no more often."""


class Progress(Protocol):
    def line(self, text: str) -> None:
        """Something the user should read."""

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        """How far the stage has come: `3 of 20 parts cleaned`, or `40 %`; `metrics` are shown."""


class _Watched(io.TextIOWrapper):
    """A stream to someone who may leave, as when a connection ends: that is to end no run."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class Terminal:
    """The process's real stdout and stderr, whatever becomes of file descriptors 1 and 2."""

    def __init__(self, out_is_json: bool = False) -> None:
        self.out: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        err = os.fdopen(os.dup(2), "wb")
        self.err: TextIO = _Watched(err, encoding="utf-8", line_buffering=True)
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

    def close(self) -> None:
        """Drops what a log on a full or broken disk does not take: Python would end with status 120
        for it."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())


class Console:
    """Progress of one stage on the driver."""

    def __init__(self, terminal: Terminal, stage: str):
        self._err = terminal.err
        self._stage = stage
        self._bar: tqdm | None = None
        self._unit = ""
        self._shown_at = time.monotonic()
        self._first: tuple[str, float, float] = ("", 0.0, 0.0)
        """What was told first in this unit: the unit, how much was done, and when."""
        self._draws = self._err.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._err.write(f"{self._stage}: {text}\n")
        if self._bar is not None and self._bar.n < self._bar.total:
            self._bar.refresh()

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        progress = f"{_short(done)} {'%' if unit == '%' else f'of {_short(total)} {unit}'}"
        shown = [f"{_words(key)} {_short(value)}" for key, value in metrics.items()]
        now = time.monotonic()
        if self._first[0] != unit:
            self._first = unit, done, now
        if self._draws:
            is_new = unit != self._unit
            if not is_new and now - self._shown_at < REDRAW_S and done < total:
                return
            text = "  ".join(shown if unit == "%" else [progress, *shown])
            if is_new:  # another step: the time that is left is that of its own items
                self.close()
                self._bar, self._unit = self._made(done, total, text), unit
            else:
                self._redraw(done, total, text)
        elif now - self._shown_at >= INTERVAL_S:
            _, first_done, began = self._first
            left = time_left(done - first_done, total - done, now - began)
            self.line("  ".join([progress, *left, *shown]))
        else:
            return
        self._shown_at = now

    def _made(self, done: float, total: float, text: str) -> tqdm:
        return tqdm(
            desc=self._stage,
            initial=done,  # what a run before had done took none of this one's time
            total=total,
            postfix=text,
            file=self._err,
            leave=False,
            disable=False,
            dynamic_ncols=True,  # a bar that is wider than the terminal would leave lines behind
            bar_format="{desc} {percentage:3.0f}%|{bar:10}| {elapsed} < {remaining}{postfix}",
        )

    def _redraw(self, done: float, total: float, text: str) -> None:
        assert self._bar is not None
        self._bar.n, self._bar.total = done, total
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Relayed:
    """Progress from any process of the cluster. Events are dropped, not waited for."""

    def __init__(self, relay: Any):
        self._relay = relay

    def line(self, text: str) -> None:
        self._relay.put.remote(("line", (text,), {}))

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


def time_left(done: float, remaining: float, seconds: float) -> list[str]:
    """What to say of the time that what remains will take, as what was done took `seconds`: nothing
    while too little is done. Pure."""
    if done <= 0 or seconds < LEFT_AFTER_S:
        return []
    left = seconds / done * remaining
    return [f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left"]


def _short(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def _words(key: str) -> str:
    return key.replace("_per_second", "/s").replace("_", " ")
