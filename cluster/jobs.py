"""`raymill submit`: run a recipe on a cluster that is elsewhere, by Ray's job API.

What travels is raymill's own code and the recipe, a few hundred kilobytes; the cluster's image has
the dependencies. Logs are followed, the job's exit status becomes the command's, and Ctrl-C stops
the job.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import InfrastructureError, UserError
from cluster.progress import Terminal
from cluster.session import ROOT

PACKAGES = ("cluster", "trainers", "tuning", "serving")
RECIPE = "recipe.yaml"
POLL_S = 0.5


def submit(address: str, recipe: Path, arguments: Sequence[str], terminal: Terminal) -> int:
    """Runs `python -m cluster run RECIPE ARGUMENTS...` on the cluster; returns its exit status."""
    import shlex

    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--address {address}: no Ray dashboard answers there: {reason}") from error
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        _gather(Path(folder), recipe)
        job_id = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "cluster", "run", RECIPE, *arguments]),
            runtime_env={"working_dir": folder},
        )
    terminal.err.write(f"submit: job {job_id} on {address}\n")
    ended = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
    shown = 0
    try:
        while True:
            status = client.get_job_status(job_id)
            logs = client.get_job_logs(job_id)
            terminal.err.write(logs[shown:])
            shown = len(logs)
            if status in ended:
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        client.stop_job(job_id)
        raise
    except (ConnectionError, RuntimeError) as error:
        raise InfrastructureError(
            f"submit: lost the cluster while job {job_id} ran: {error}"
        ) from error
    info = client.get_job_info(job_id)
    if info.driver_exit_code is None:
        raise InfrastructureError(f"submit: job {job_id} {status.lower()}: {info.message}")
    return info.driver_exit_code


def _gather(folder: Path, recipe: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(Path(ROOT) / package, folder / package, ignore=ignored)
    shutil.copy(recipe, folder / RECIPE)
