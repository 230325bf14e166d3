"""All that is shown on one GPU, each part in processes of its own and with its own budget of time:
a part that fails or is cut says so in the table, and the next one begins.

    python -m tests.gpu.run [--cpu] [--only PART,...] [--seconds N] [--spent N] [--out FOLDER]

Prints one table, whatever happens, and writes it to FOLDER/table.md as it grows.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cluster.ray.session import set_environment
from tests.gpu.sizes import sizes
from tests.gpu.trainings import PLAN, READY, cases

ROOT = Path(__file__).parents[2]
BUDGET_S = {
    "train": 90,
    "adapters": 75,
    "packing": 20,
    "chunks": 20,
    "pretrain": 55,
    "finetune": 35,
    "evaluate": 20,
    "score": 35,
    "serve": 30,
    "chat": 60,
}
"""Of each part on a GPU, one after the other: with half a minute before them they take less than 8
minutes. What a part leaves is for those behind it; one that needs more is cut."""
CASE_S = 60
"""Of one training, at most."""
SLOWER = 20
"""Times as long on CPUs that other work keeps busy."""
END_S = 10
"""In which a process that is cut ends, with what it has started."""
REASON = 200
"""Characters of a failure that the table shows."""
COMPARED = {"packing": "packed = unpacked", "chunks": "chunks = whole logits"}
"""What is held against each other by a part that is a module."""
NOT_BEGUN = "failed: not begun, the time was over"


class Row(NamedTuple):
    part: str
    case: str
    outcome: str
    """`ok`, or `failed` with the reason."""
    figures: dict[str, Any]
    seconds: float


class Process:
    """A module of this folder, in a session of its own, with what it prints in files. As a context
    it does not outlive its block."""

    def __init__(self, module: str, arguments: Sequence[str], folder: Path):
        self._name = f"{module}-{Path(arguments[0]).name}"
        self._out, self._err = (folder / f"{self._name}.{kind}" for kind in ("out", "err"))
        command = [sys.executable, "-m", f"tests.gpu.{module}", *arguments]
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait_until_ready(self, until: float) -> None:
        while READY not in self._out.read_text() and self._process.poll() is None:
            if time.monotonic() > until:
                return
            time.sleep(0.05)

    def go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its outcome says how
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def outcome(self, until: float) -> tuple[str, dict[str, Any]]:
        """`ok` and what it printed, or why it failed; by that time it has ended, or is cut."""
        try:
            status = self._process.wait(max(0.0, until - END_S - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "failed: cut, it took longer than its budget of time", {}
        finally:
            self.end()
        if status != 0:
            return f"failed: {_reason(self._err.read_text(errors='replace'), status)}", {}
        return "ok", json.loads(self._out.read_text().splitlines()[-1])

    def end(self) -> None:
        """With all that it started: a stage ends its command where it is asked to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _reason(said: str, status: int) -> str:
    """The last line that a process said, which is that of its error."""
    lines = [line for line in said.splitlines() if line.strip()] or [f"exit status {status}"]
    return lines[-1].strip()[:REASON]


def ends(parts: Sequence[str], began: float, seconds: float) -> dict[str, float]:
    """When each part has ended or is cut, if all budgets together are so many seconds. Pure."""
    scale = seconds / sum(BUDGET_S.values())
    spent = itertools.accumulate(scale * BUDGET_S[part] for part in parts)
    return {part: began + seconds_until for part, seconds_until in zip(parts, spent, strict=True)}


def rows(until: Mapping[str, float], folder: Path, on_cpu: bool) -> Iterator[Row]:
    """Of each part, by that time. A row that comes again has more figures."""
    further = [str(folder), *(["--cpu"] if on_cpu else [])]
    for part, end in until.items():
        if part in ("train", "adapters"):
            yield from _trainings(part, folder, further, on_cpu, end)
        elif part in COMPARED:
            yield _row(part, COMPARED[part], part, further, folder, end)
        else:
            yield _row(part, "", "stages", [part, *further], folder, end)


def _row(
    part: str, case: str, module: str, arguments: Sequence[str], folder: Path, until: float
) -> Row:
    began = time.monotonic()
    if began > until - END_S:
        return Row(part, case, NOT_BEGUN, {}, 0.0)
    with Process(module, arguments, folder) as process:
        outcome, figures = process.outcome(until)
    return Row(part, case, outcome, figures, time.monotonic() - began)


def _trainings(
    part: str, folder: Path, further: Sequence[str], on_cpu: bool, until: float
) -> Iterator[Row]:
    """One after the other, and on GPUs the next imports while one trains. What is planned of them
    is computed beside, and comes to their rows at the end."""
    waiting, limit_s = cases(part, sizes(on_cpu)), CASE_S * (SLOWER if on_cpu else 1)
    done, plan = list[Row](), f"{PLAN}{part}"
    with contextlib.ExitStack() as started:

        def start(case: str) -> Process:
            return started.enter_context(Process("trainings", [case, *further], folder))

        planning, ahead = None if on_cpu else start(plan), None
        for case, following in itertools.zip_longest(waiting, waiting[1:]):
            end = min(until, time.monotonic() + limit_s)
            if time.monotonic() > until - END_S:
                row = Row(part, case, NOT_BEGUN, {}, 0.0)
            else:
                current = ahead or start(case)
                current.wait_until_ready(end)
                began = time.monotonic()
                current.go()
                ahead = start(following) if following and not on_cpu else None
                outcome, figures = current.outcome(end)
                row = Row(part, case, outcome, figures, time.monotonic() - began)
            done.append(row)
            yield row
        outcome, planned = (planning or start(plan)).outcome(until)
    for row in done:
        if row.case in planned:
            yield row._replace(figures={**row.figures, "planned_gb": planned[row.case]})
    if not planned:
        yield Row(part, "plan", outcome, {}, 0.0)


def table(found: Sequence[Row], head: str) -> str:
    """In Markdown."""
    lines = [head, "", "| part | case | outcome | figures | s |", "|---|---|---|---|---|"]
    for row in found:
        figures = ", ".join(f"{name} {_written(value)}" for name, value in row.figures.items())
        outcome = row.outcome.replace("|", "/")
        lines.append(f"| {row.part} | {row.case} | {outcome} | {figures} | {row.seconds:.0f} |")
    return "\n".join(lines)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_written(one)}" for name, one in value.items()) + ")"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine(on_cpu: bool) -> str:
    """By another process: this one starts others, and leaves the GPU to them."""
    code = "import torch; print(torch.__version__, '|', torch.cuda.get_device_name(0))"
    if on_cpu:
        code = "import torch; print(torch.__version__, '|', 'CPU, in small')"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if asked.returncode != 0:
        return _reason(asked.stderr, asked.returncode)
    version, _, device = asked.stdout.strip().partition("|")
    return f"{device.strip()}, PyTorch {version.strip()}, {time.strftime('%Y-%m-%d')}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.run")
    parser.add_argument("--cpu", action="store_true", help="in small, on CPUs")
    parser.add_argument("--only", default=",".join(BUDGET_S), help=f"of {', '.join(BUDGET_S)}")
    parser.add_argument(
        "--seconds", type=float, help=f"of all parts; {sum(BUDGET_S.values())} on a GPU"
    )
    parser.add_argument("--spent", type=float, default=0.0, help="of these, before this began")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "gpu" / "out")
    options = parser.parse_args()
    began, chosen = time.monotonic(), options.only.split(",")
    unknown = sorted({*chosen} - {*BUDGET_S})
    if unknown:
        parser.error(f"--only {','.join(unknown)}: the parts are {', '.join(BUDGET_S)}")
    seconds = options.seconds or sum(BUDGET_S.values()) * (SLOWER if options.cpu else 1)
    set_environment()
    options.out.mkdir(parents=True, exist_ok=True)
    until = ends([part for part in BUDGET_S if part in chosen], began, seconds - options.spent)
    return shown(until, options.out, options.cpu)


def shown(until: Mapping[str, float], out: Path, on_cpu: bool) -> int:
    """Does the parts, and prints their table, also where a signal ends it; 0 if all is well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    head, found = machine(on_cpu), dict[tuple[str, str], Row]()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="raymill-gpu-") as folder,
            contextlib.closing(rows(until, Path(folder), on_cpu)) as coming,  # type: ignore[type-var]
        ):
            for row in coming:
                found[row.part, row.case] = row
                text = f"{row.part} {row.case}: {row.outcome} {row.figures}"
                print(text, file=sys.stderr, flush=True)
                (out / "table.md").write_text(table([*found.values()], head) + "\n", "utf-8")
    finally:
        print(table([*found.values()], head))
    return int(any(row.outcome != "ok" for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
