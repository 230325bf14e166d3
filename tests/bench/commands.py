"""Run a command as a user would, and measure it: seconds, when its lines came, memory."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.command import Program

SAMPLE_S = 0.3
TIMEOUT_S = 3600
"""What takes longer is ended."""


@dataclasses.dataclass
class Run:
    out: str
    seconds: float
    """From the start of the process to its end."""
    lines: list[tuple[float, str]]
    """What it said, and when."""
    peak_bytes: int
    """Most anonymous memory (RssAnon) of any of its processes at one time: without mapped files and
    the object store's shared memory, whose pages the kernel takes back when it likes."""

    @property
    def answer(self) -> dict[str, Any]:
        return json.loads(self.out)

    def when(self, words: str) -> float:
        """Seconds to the first line that has these words."""
        return next(at for at, line in self.lines if words in line)


def run(*arguments: str) -> Run:
    """`python ARGUMENTS` to its end. Raises CalledProcessError with what it said."""
    began = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    program = Program([sys.executable, *arguments], subprocess.PIPE, environment)
    lines: list[tuple[float, str]] = []
    peaks = [0]

    def listen() -> None:
        for line in program.process.stderr:
            lines.append((time.monotonic() - began, line))

    def watch() -> None:
        while program.process.poll() is None:
            peaks.append(max(map(_anonymous_bytes, program.processes()), default=0))
            time.sleep(SAMPLE_S)

    threads = [threading.Thread(target=listen), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    timer = threading.Timer(TIMEOUT_S, program.end)
    timer.start()
    try:
        out = program.process.stdout.read()
        status = program.process.wait()
        seconds = time.monotonic() - began
    finally:
        timer.cancel()
        program.end()
        for thread in threads:
            thread.join()
    if status:
        said = "".join(line for _, line in lines)
        raise subprocess.CalledProcessError(status, arguments, out, said)
    return Run(out, seconds, lines, max(peaks))


def _anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it ended meanwhile
        return 0
    sizes: Sequence[str] = [
        line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")
    ]
    return 1024 * int(sizes[0]) if sizes else 0
