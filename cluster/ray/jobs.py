"""`raymill submit`: run a recipe on a cluster that is elsewhere, by Ray's job API.

What travels is raymill's own code and the recipe, a few hundred kilobytes; the cluster's image has
the dependencies. The log is followed as it grows, over one connection that is made anew where it
breaks, and the job's exit status becomes the command's.
"""

import contextlib
import json
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import InfrastructureError, UserError
from cluster.ray.session import ROOT, TOKEN_HINT
from cluster.runs.progress import Terminal

PACKAGES = ("cluster", "trainers", "tuning", "serving")
RECIPE = "recipe.yaml"
RECONNECT_S = 0.5
"""Before a connection that ended is made anew."""
SILENT_S = 300.0
"""A connection over which nothing came for so long may be dead: it is made anew. Ray then sends the
log from its beginning, which does not grow while the job is silent."""
PATIENCE_S = 60.0
"""How long the cluster may not answer a question before the command gives up following."""
STOP_WAIT, STOP_WAIT_S = "RAY_JOB_STOP_WAIT_TIME_S", 60
"""How long Ray gives a job that is stopped, before it kills it. By default 3 s: too few for a
checkpoint."""
STATUSES = (0, 2, 3, 4, 130)
"""What raymill ends with; another is of something that ended it, or never let it begin."""
ANSWER = '{"status": '


def submit(client: Any, recipe: Path, arguments: Sequence[str]) -> str:
    """Has the cluster run `python -m cluster run RECIPE ARGUMENTS...`; returns the job's id."""
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        _gather(Path(folder), recipe)
        # With an answer in its log, whoever follows the job can have it.
        command = ["python", "-m", "cluster", "run", RECIPE, *arguments, "--json"]
        try:
            return client.submit_job(
                entrypoint=shlex.join(command),
                runtime_env={"working_dir": folder, "env_vars": {STOP_WAIT: str(STOP_WAIT_S)}},
            )
        except (OSError, RuntimeError) as error:
            raise InfrastructureError(f"submit: the cluster takes no job: {error}") from error


def refuse_unknown(client: Any, job_id: str) -> None:
    """Raises UserError where the cluster has no such job that was submitted."""
    try:
        info = client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" not in str(error):
            raise InfrastructureError(f"--follow {job_id}: {error}") from error
        raise UserError(
            f"--follow {job_id}: the cluster has no such job; `ray job list` shows those it has"
        ) from error
    if info.submission_id is None:
        raise UserError(f"--follow {job_id}: was not submitted, Ray keeps no log of it")


def follow(
    client: Any, job_id: str, terminal: Terminal, stop_on_interrupt: bool
) -> tuple[int, dict[str, Any]]:
    """Shows the job's log until it ends; returns its exit status and its answer."""
    followed = Followed(client, job_id, terminal)
    try:
        info = followed.to_its_end()
    except KeyboardInterrupt:
        if not stop_on_interrupt:
            terminal.err.write(f"submit: job {job_id} goes on; `ray job stop` would end it\n")
            raise
        terminal.err.write("submit: stops the job; Ctrl-C again does not wait for its end\n")
        client.stop_job(job_id)
        followed.to_its_end()
        raise
    if info.driver_exit_code not in STATUSES:
        raise InfrastructureError(f"submit: job {job_id} {info.status.lower()}: {info.message}")
    return info.driver_exit_code, {"job": job_id, **followed.answer}


class Followed:
    """A job whose log is shown while it runs. `client` is a JobSubmissionClient."""

    def __init__(self, client: Any, job_id: str, terminal: Terminal):
        self._client, self._job_id, self._terminal = client, job_id, terminal
        self._read = 0
        """Characters of the log, which every connection begins with the first of."""
        self._begun_line = ""
        self.answer: dict[str, Any] = {}
        """The object that the job has printed last."""

    def to_its_end(self) -> Any:
        """Returns what Ray knows of the job when it has ended, however. Raises InfrastructureError
        when the cluster does not answer for a while."""
        import asyncio

        import aiohttp

        while True:
            # A connection that breaks says little of the cluster: proxies end those over which
            # nothing came for a minute. Whether the cluster is there, the next question tells.
            with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
                asyncio.run(self._follow_connection())
            info = self._ask(self._client.get_job_info)
            if info.status.is_terminal():
                # The connection may have ended before the log did.
                self._show(self._ask(self._client.get_job_logs)[self._read :])
                self._show_line(self._begun_line)
                return info
            time.sleep(RECONNECT_S)

    async def _follow_connection(self) -> None:
        """Shows what the log grows by, until the connection ends or seems dead."""
        import asyncio

        known = self._read
        chunks = self._client.tail_job_logs(self._job_id)
        with contextlib.suppress(TimeoutError):
            while (chunk := await asyncio.wait_for(anext(chunks, None), SILENT_S)) is not None:
                self._show(chunk[known:])
                known = max(0, known - len(chunk))

    def _ask(self, question: Callable[[str], Any]) -> Any:
        """The cluster's answer about the job, once it gives one. Raises InfrastructureError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return question(self._job_id)
            except (OSError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise InfrastructureError(
                        f"submit: lost the cluster while job {self._job_id} ran; it may go on "
                        f"there: {error}"
                    ) from error
            time.sleep(RECONNECT_S)

    def _show(self, text: str) -> None:
        self._read += len(text)
        *lines, self._begun_line = (self._begun_line + text).split("\n")
        for line in lines:
            self._show_line(f"{line}\n")

    def _show_line(self, line: str) -> None:
        """The job's answer is not shown: it is the command's, and `--json` prints that."""
        if line.startswith(ANSWER):
            with contextlib.suppress(ValueError):  # something else that begins alike
                self.answer = json.loads(line)
                return
        self._terminal.err.write(line)


def connect(address: str) -> Any:
    """A JobSubmissionClient. Raises UserError where no dashboard answers at `address`."""
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # what it uploads is nothing to read
    # Ray would try for minutes to find a cluster by anything else.
    if not re.match(r"https?://[^/]", address):
        raise UserError(f"--address {address}: expected the dashboard's, such as http://HOST:8265")
    try:
        return JobSubmissionClient(address)
    except RayError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--address {address}: {reason}{TOKEN_HINT}") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--address {address}: no Ray dashboard answers there: {reason}") from error


def _gather(folder: Path, recipe: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(Path(ROOT) / package, folder / package, ignore=ignored)
    shutil.copy(recipe, folder / RECIPE)
