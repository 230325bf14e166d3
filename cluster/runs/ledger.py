"""Where the wall time of a long job went. Knows nothing of models.

The ledger is a file of entries in the order of time. Each says what the time since the entry before
it was spent on, so the parts sum to the whole, whatever happens between two entries:

    {"at": 1764000000.0, "what": "command"}            until now no command ran: idle
    {"at": 1764000021.5, "what": "start", "step": 120} until now things were set up; the job goes on
                                                       behind step 120: what it had done of later
                                                       steps is lost. `setup_s` says what of
                                                       this time its first worker spent in the
                                                       job's own code, waiting for others included
    {"at": 1764000022.5, "what": "steps", "step": 131, "spent": {"data_wait": 0.02}}
                                                       all the rest of this time was computing
    {"at": 1764000023.0, "what": "back", "step": 120}  what was done behind step 120 is thrown away

What a process did between its last entry and its death is counted with the restart. `at` is in
seconds of the Unix epoch.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cluster.store.jsonl import Lines

COMPUTE, STARTUP, RESTART, LOST, IDLE = "compute", "startup", "restart", "lost", "idle"
ORDER = (
    COMPUTE, "data_wait", "checkpoint", "evaluation", "export", STARTUP, RESTART, LOST, IDLE,
)  # fmt: skip
"""Of the parts, where they are shown."""


@dataclasses.dataclass
class Account:
    """What the entries come to."""

    parts: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds by what they were spent on. `startup` is from a command to its first step, `restart`
    from a loss within a command to the first step after it, `lost` all the time of steps that were
    done again or thrown away, `idle` that between commands; `compute` is of steps that count."""
    began: float | None = None
    until: float = 0.0
    latest: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of these, what the last entry added."""
    _setting_up: str = STARTUP
    _counted: list[tuple[int, dict[str, float]]] = dataclasses.field(default_factory=list)
    """Stretches of steps: the last step of each, and its parts."""

    @property
    def whole(self) -> float:
        """Seconds from the first entry to the last."""
        return self.until - self.began if self.began is not None else 0.0

    @property
    def goodput(self) -> float:
        """Share of the wall time in which steps that count were computed."""
        return self.parts.get(COMPUTE, 0.0) / self.whole if self.whole > 0 else 0.0

    def take(self, entry: Mapping[str, Any]) -> None:
        """Adds the next entry."""
        if self.began is None:
            self.began = self.until = entry["at"]
        gap = max(0.0, entry["at"] - self.until)  # clocks of two machines may differ
        self.until += gap
        self.latest = {}
        match entry["what"]:
            case "command":
                self.latest = {IDLE: gap}
                self._setting_up = STARTUP
            case "start":
                self.latest = {self._setting_up: gap}
                self._setting_up = RESTART
                self._lose_after(entry["step"])
            case "back":
                self.latest = {LOST: gap}
                self._lose_after(entry["step"])
            case "steps":
                self.latest = _fitted(entry.get("spent", {}), gap)
                self._counted.append((entry["step"], self.latest))
        self._add(self.latest)

    def as_metrics(self) -> dict[str, Any]:
        """`goodput`, and the `wall_seconds` by part."""
        shown = {part: round(self.parts[part], 2) for part in ORDER if self.parts.get(part)}
        return {"goodput": round(self.goodput, 4), "wall_seconds": shown}

    def _add(self, parts: Mapping[str, float]) -> None:
        for part, seconds in parts.items():
            self.parts[part] = self.parts.get(part, 0.0) + seconds

    def _lose_after(self, step: int) -> None:
        while self._counted and self._counted[-1][0] > step:
            _, parts = self._counted.pop()
            self._add({part: -seconds for part, seconds in parts.items()})
            self._add({LOST: sum(parts.values())})


def account(entries: Iterable[Mapping[str, Any]]) -> Account:
    made = Account()
    for entry in entries:
        made.take(entry)
    return made


def _fitted(spent: Mapping[str, float], gap: float) -> dict[str, float]:
    """What was spent, and computing as the rest of the gap."""
    told = sum(spent.values())
    scale = min(1.0, gap / told) if told > 0 else 0.0
    fitted = {part: seconds * scale for part, seconds in spent.items()}
    return {COMPUTE: gap - sum(fitted.values()), **fitted}


class Ledger:
    """The writer of a ledger; without `lines` it counts for this process alone."""

    def __init__(self, lines: Lines | None):
        self._lines = lines
        self._epoch = time.time() - time.monotonic()
        self._spent: dict[str, float] = {}
        self.account = account(lines.records if lines else ())

    def command(self, at: float) -> None:
        """A command took the job up at this time; said again after every loss within it."""
        entry = {"at": at, "what": "command"}
        if self._lines is None or entry not in self._lines.records:
            self._write(entry)

    def start(self, step: int, **details: Any) -> None:
        """The first step behind this one is done."""
        self._spent.clear()
        self._write({"at": self._now(), "what": "start", "step": step, **details})

    def back(self, step: int) -> None:
        """What was done behind this step is thrown away; the job goes on."""
        self._spent.clear()
        self._write({"at": self._now(), "what": "back", "step": step})

    def steps(self, step: int, **details: Any) -> dict[str, float]:
        """All steps up to this one are done. Returns the parts of the time since the last entry, in
        seconds."""
        entry = {"at": self._now(), "what": "steps", "step": step}
        spent = {part: round(seconds, 4) for part, seconds in self._spent.items() if seconds}
        if spent:
            entry["spent"] = spent
        self._spent.clear()
        self._write({**entry, **details})
        return self.account.latest

    def add(self, part: str, seconds: float) -> None:
        """So much of the time since the last entry was no computing."""
        self._spent[part] = self._spent.get(part, 0.0) + seconds

    @contextlib.contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """What the block takes is time of this part."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(part, time.monotonic() - began)

    def _now(self) -> float:
        return round(self._epoch + time.monotonic(), 3)

    def _write(self, entry: dict[str, Any]) -> None:
        self.account.take(entry)
        if self._lines is not None:
            self._lines.append(entry)
