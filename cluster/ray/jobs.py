"""`raymill submit`: run a recipe on a cluster that is elsewhere, by Ray's job API.

What travels is raymill's own code and the recipe, a few hundred kilobytes; the cluster's image has
the dependencies. Logs are followed, the job's exit status becomes the command's, and Ctrl-C stops
the job.
"""

import json
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import InfrastructureError, UserError
from cluster.ray.session import ROOT, TOKEN_HINT
from cluster.runs.progress import Terminal

PACKAGES = ("cluster", "trainers", "tuning", "serving")
RECIPE = "recipe.yaml"
POLL_S = 0.5
PATIENCE_S = 60.0
"""How long the cluster may not answer before the command gives up following."""
STATUSES = (0, 2, 3, 4, 130)
"""What raymill ends with; another is of something that ended it, or never let it begin."""
ANSWER = '{"status": '


def submit(
    address: str, recipe: Path, arguments: Sequence[str], terminal: Terminal
) -> tuple[int, dict[str, Any]]:
    """Runs `python -m cluster run RECIPE ARGUMENTS...` on the cluster; returns its exit status, and
    what it answered if `--json` is among the arguments."""
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        _gather(Path(folder), recipe)
        try:
            job_id = client.submit_job(
                entrypoint=shlex.join(["python", "-m", "cluster", "run", RECIPE, *arguments]),
                runtime_env={"working_dir": folder},
            )
        except (OSError, RuntimeError) as error:
            raise InfrastructureError(f"submit: {address} takes no job: {error}") from error
    terminal.err.write(f"submit: job {job_id} on {address}; Ctrl-C stops it\n")
    followed = Followed(client, job_id, terminal)
    try:
        followed.to_its_end()
    except KeyboardInterrupt:
        terminal.err.write("submit: stops the job; Ctrl-C again does not wait for its end\n")
        client.stop_job(job_id)
        followed.to_its_end()
        raise
    info = client.get_job_info(job_id)
    if info.driver_exit_code not in STATUSES:
        raise InfrastructureError(f"submit: job {job_id} {info.status.lower()}: {info.message}")
    return info.driver_exit_code, {"job": job_id, **answer(followed.log)}


class Followed:
    """A job whose log is shown while it runs. `client` is a JobSubmissionClient."""

    def __init__(self, client: Any, job_id: str, terminal: Terminal):
        self._client, self._job_id, self._terminal = client, job_id, terminal
        self.log = ""

    def to_its_end(self) -> None:
        """Returns when the job has ended, however. Raises InfrastructureError when the cluster has
        not answered for a while."""
        answered = time.monotonic()
        while True:
            try:
                status = self._client.get_job_status(self._job_id)  # first, so the log is whole
                log = self._client.get_job_logs(self._job_id)
            except (OSError, RuntimeError) as error:
                if time.monotonic() - answered > PATIENCE_S:
                    raise InfrastructureError(
                        f"submit: lost the cluster while job {self._job_id} ran; it may go on "
                        f"there: {error}"
                    ) from error
            else:
                answered = time.monotonic()
                self._terminal.err.write(log[len(self.log) :])
                self.log = log
                if status.is_terminal():
                    return
            time.sleep(POLL_S)


def answer(log: str) -> dict[str, Any]:
    """The object that a job with `--json` printed last, or nothing. Pure."""
    lines = [line for line in log.splitlines() if line.startswith(ANSWER)]
    return json.loads(lines[-1]) if lines else {}


def _client(address: str) -> Any:
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
