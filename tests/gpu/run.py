"""All that is shown on one GPU, each part in processes of its own and with its own limit of time: a
part that fails says why in the table, and the next one begins.

    python -m tests.gpu.run [--cpu] [--only PART,...] [--seconds 460] [--out FOLDER]

Prints one table, and writes it to FOLDER/table.md. What is not begun within the seconds is told.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cluster.ray.session import set_environment
from tests.gpu.sizes import sizes
from tests.gpu.stages import STAGES
from tests.gpu.trainings import READY, cases

ROOT = Path(__file__).parents[2]
LIMIT_S = {"train": 70, "packing": 60, "plan": 150, "stages": 120}
"""Of one process of a part."""
SLOWER = 20
"""Times as long on CPUs that other work keeps busy."""
END_S = 10
REASON = 200
"""Characters of a failure that the table shows."""


class Row(NamedTuple):
    part: str
    case: str
    outcome: str
    """`ok`, or `failed` with the reason."""
    figures: dict[str, Any]
    seconds: float


class Process:
    """A module of this folder, in a session of its own, with what it prints in files."""

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

    def wait_until_ready(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while READY not in self._out.read_text() and self._process.poll() is None:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its outcome says how
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def outcome(self, limit_s: float) -> tuple[str, dict[str, Any]]:
        """`ok` and what it printed, or why it failed."""
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"failed: not within {limit_s:g} s", {}
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


def rows(parts: Sequence[str], folder: Path, on_cpu: bool, until: float) -> Iterator[Row]:
    slower = SLOWER if on_cpu else 1
    limits = {name: limit * slower for name, limit in LIMIT_S.items()}
    further = [str(folder), *(["--cpu"] if on_cpu else [])]
    if "train" in parts:
        yield from _trainings(folder, further, limits, on_cpu, until)
    if "packing" in parts:
        yield _row("packing", "packed = unpacked", "packing", further, folder, limits["packing"])
    for stage in STAGES:
        if stage not in parts:
            continue
        if time.monotonic() > until:
            yield Row(stage, "", "failed: not begun, the time was over", {}, 0.0)
        else:
            yield _row(stage, "", "stages", [stage, *further], folder, limits["stages"])


def _row(
    part: str, case: str, module: str, arguments: Sequence[str], folder: Path, limit_s: float
) -> Row:
    began = time.monotonic()
    outcome, figures = Process(module, arguments, folder).outcome(limit_s)
    return Row(part, case, outcome, figures, time.monotonic() - began)


def _trainings(
    folder: Path, further: Sequence[str], limits: dict[str, float], on_cpu: bool, until: float
) -> Iterator[Row]:
    """One after the other, and on GPUs the next imports while one trains. What is planned of them
    is computed beside."""
    waiting, ahead = cases(sizes(on_cpu)), None
    planning = None if on_cpu else Process("trainings", ["plan", *further], folder)
    done: list[Row] = []
    for number, case in enumerate(waiting):
        if time.monotonic() > until:
            done.append(Row("train", case, "failed: not begun, the time was over", {}, 0.0))
            continue
        current = ahead or Process("trainings", [case, *further], folder)
        current.wait_until_ready(limits["train"])
        began = time.monotonic()
        current.go()
        following = waiting[number + 1 : number + 2]
        ahead = None
        if following and not on_cpu:
            ahead = Process("trainings", [following[0], *further], folder)
        outcome, figures = current.outcome(limits["train"])
        done.append(Row("train", case, outcome, figures, time.monotonic() - began))
    if ahead is not None:
        ahead.end()
    planning = planning or Process("trainings", ["plan", *further], folder)
    outcome, planned = planning.outcome(limits["plan"])
    for row in done:
        figures = {**row.figures, "planned_gb": planned[row.case]} if row.case in planned else {}
        yield row._replace(figures=figures or row.figures)
    if not planned:
        yield Row("train", "plan", outcome, {}, 0.0)


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
    parts = ("train", "packing", *STAGES)
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.run")
    parser.add_argument("--cpu", action="store_true", help="in small, on CPUs")
    parser.add_argument("--only", default=",".join(parts), help=f"of {', '.join(parts)}")
    parser.add_argument("--seconds", type=float, help="begin nothing later; 400 on a GPU")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "gpu" / "out")
    options = parser.parse_args()
    chosen = options.only.split(",")
    unknown = sorted({*chosen} - {*parts})
    if unknown:
        parser.error(f"--only {','.join(unknown)}: the parts are {', '.join(parts)}")
    seconds = options.seconds or (400.0 if not options.cpu else 1e9)
    set_environment()
    options.out.mkdir(parents=True, exist_ok=True)
    found: list[Row] = []
    head = machine(options.cpu)
    with tempfile.TemporaryDirectory(prefix="raymill-gpu-") as folder:
        for row in rows(chosen, Path(folder), options.cpu, time.monotonic() + seconds):
            found.append(row)
            print(
                f"{row.part} {row.case}: {row.outcome} {row.figures}", file=sys.stderr, flush=True
            )
            (options.out / "table.md").write_text(table(found, head) + "\n", "utf-8")
    print(table(found, head))
    return int(any(row.outcome != "ok" for row in found))


if __name__ == "__main__":
    sys.exit(main())
