"""Programs in processes of their own, and what is left of them; a raymill command is one."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from serving.rollout.ingress import free_ports

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")
TIMEOUT_S = 900
"""Limits only bound a hang: no test measures time."""


@dataclasses.dataclass
class Outcome:
    status: int
    answer: dict[str, Any]
    """What `--json` printed."""
    stderr: str
    """What the terminal showed."""


class Program:
    """A program, with what it starts marked in the environment."""

    def __init__(
        self,
        arguments: Sequence[str],
        output: int,
        environment: Mapping[str, str],
        terminal: int | None = None,
    ):
        """`terminal` becomes that of the program's session."""
        self.mark = uuid.uuid4().hex
        # Without SPT_NOENV, Ray writes its process titles over the environment.
        marked = {**environment, "RAYMILL_TEST_MARK": self.mark, "SPT_NOENV": "1"}
        self.process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=marked,
            stdin=terminal,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=None if terminal is None else _take_terminal,
        )

    def processes(self) -> list[int]:
        """All that this program started, directly or not, and that still runs."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = _environment(int(entry.name))
                    is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                except OSError:  # it ended meanwhile
                    continue
                if f"RAYMILL_TEST_MARK={self.mark}".encode() in environment and not is_zombie:
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Command(Program):
    """A raymill command."""

    def __init__(self, *arguments: str, terminal: int | None = None):
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        hearing = ["env", "--default-signal=HUP"]  # also where the tests run under nohup
        command = [*hearing, sys.executable, "-m", "cluster", *arguments, "--json"]
        super().__init__(command, subprocess.PIPE, environment, terminal)

    def wait(self, timeout_s: float = TIMEOUT_S) -> Outcome:
        try:
            out, stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            raise
        answer = json.loads(out) if out.strip() else {}
        return Outcome(self.process.returncode, answer, stderr)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Waits for something true while the command runs, and returns it."""

        def found() -> Any:
            assert self.process.poll() is None, self.wait().stderr
            return condition()

        return until(found)

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def strays(self, patience_s: float = 300.0) -> list[str]:
        """Processes that outlive the command by longer than `patience_s`."""
        deadline = time.monotonic() + patience_s
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.3)
        return self.command_lines() if left else []

    def ray_metrics(self) -> str:
        """What Prometheus would read of this command's Ray; nothing before that listens."""
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile, or listens not yet
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                raylet = re.search(r"--node_ip_address=([^\0]+).*--session_dir=([^\0]+)", line)
                for port in Path(raylet[2]).glob("metrics_export_port_*") if raylet else ():
                    url = f"http://{raylet[1]}:{port.read_text()}/metrics"
                    with urllib.request.urlopen(url, timeout=60) as answer:
                        return answer.read().decode()
        return ""

    def ports(self) -> set[int]:
        """At which its processes listen."""
        found = set()
        for pid in self.processes():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                connections = psutil.Process(pid).net_connections("tcp")
                found |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
        return found

    def training_workers(self) -> list[int]:
        """The processes of its group of workers."""
        return self.titled("ray::RayTrainWorker")

    def titled(self, beginning: str) -> list[int]:
        """Its processes whose titles, such as those that Ray gives, begin so."""
        return [pid for pid, title in self._titles().items() if title.startswith(beginning)]

    def named(self, name: str) -> list[int]:
        """Its processes of a program, such as `raylet`."""
        titles = self._titles()
        return [pid for pid, title in titles.items() if Path(title.split(" ")[0]).name == name]

    def command_lines(self) -> list[str]:
        """Of all that this command started and that still runs."""
        return [title[:200] for title in self._titles().values()]

    def _titles(self) -> dict[int, str]:
        titles = {}
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                titles[pid] = line.decode()
        return titles


@dataclasses.dataclass(frozen=True)
class Head:
    """A Ray cluster of one node that is there before the commands that use it, as on a machine
    where someone has started Ray."""

    address: str
    dashboard: str
    environment: Mapping[str, str]
    """Of whoever speaks to it by Ray's own commands."""


@contextlib.contextmanager
def ray_head() -> Iterator[Head]:
    """Its own folder has jobs find it, not the Ray that was started last on this machine."""
    gcs, dashboard, agent, client = free_ports(4)
    environment = {
        **os.environ,
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    head = Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", environment)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # sockets have no room for more
        program = Program(
            [RAY, "start", "--head", "--block", "--num-cpus=2", f"--port={gcs}",
             f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
             f"--ray-client-server-port={client}", f"--temp-dir={folder}",
             "--min-worker-port=0", "--max-worker-port=0"],  # any: other tests have Rays too
            subprocess.DEVNULL, environment,
        )  # fmt: skip

        def is_up() -> bool:
            assert program.process.poll() is None, "ray start ended"
            try:
                url = f"{head.dashboard}/api/version"
                return bool(urllib.request.urlopen(url, timeout=30).status == 200)
            except OSError:
                return False

        try:
            until(is_up)
            yield head
        finally:
            program.end()  # it would take half a minute to end by itself


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {timeout_s} s")


def free_port() -> int:
    """Which stays free while Rays take any that they are given."""
    return free_ports(1)[0]
