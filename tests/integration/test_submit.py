"""A recipe as a Ray job, on a real `ray start --head`."""

import os
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from serving.rollout.ingress import free_ports
from tests.integration.command import ROOT, Program, until

RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def head():
    """A one-node cluster with a dashboard. Its own folder has jobs find it, not the Ray that was
    started last on this machine."""
    folder = tempfile.TemporaryDirectory(prefix="ray-")  # Ray's sockets have no room for more
    gcs, dashboard, agent, client = free_ports(4)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    program = Program(
        [RAY, "start", "--head", "--block", "--num-cpus=2", f"--port={gcs}",
         f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
         f"--ray-client-server-port={client}", f"--temp-dir={folder.name}"],
        subprocess.DEVNULL, environment,
    )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"

    def is_up():
        assert program.process.poll() is None, "ray start ended"
        try:
            return urllib.request.urlopen(f"{address}/api/version", timeout=30).status == 200
        except OSError:
            return False

    until(is_up)
    yield address, environment
    program.end()  # it would take half a minute to end by itself
    folder.cleanup()


def test_submit_follows_the_log_and_carries_the_status(head, raymill, recipe, tmp_path):
    address, _ = head
    arguments = ("submit", str(recipe), "--address", address, "--workspace", str(tmp_path))
    failed = raymill(*arguments, "--until", "examples", "--set", "finetune.labels=[good, fair]")
    assert failed.status == 2
    assert "label 'bad' is not in finetune.labels (good, fair)" in failed.stderr


def test_a_job_goes_on_by_itself_and_is_followed_by_its_id(head, raymill, recipe, tmp_path):
    address, _ = head
    arguments = ("--workspace", str(tmp_path), "--until", "examples")
    taken = raymill("submit", str(recipe), "--address", address, *arguments, "--detach")
    assert taken.status == 0, taken.stderr
    assert f"--follow {taken.answer['job']} --address {address}" in taken.stderr
    for _ in range(2):  # while it runs, and when it has ended
        done = raymill("submit", "--follow", taken.answer["job"], "--address", address)
        assert done.status == 0, done.stderr
        assert done.stderr.count("labelled documents") == 1
        assert done.answer["job"] == taken.answer["job"]
        assert [stage["stage"] for stage in done.answer["stages"]] == ["examples"]
    assert list(tmp_path.glob("examples/tiny-examples-*/manifest.json"))
    unknown = raymill("submit", "--follow", "raysubmit_none", "--address", address)
    assert unknown.status == 2
    assert "the cluster has no such job" in unknown.stderr


def test_plain_ray_job_submit(head, recipe, tmp_path):
    address, environment = head
    command = f"python -m cluster run {recipe} --until examples --workspace {tmp_path}"
    finished = subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--",
         *shlex.split(command)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert list(tmp_path.glob("examples/tiny-examples-*/manifest.json"))


def test_no_dashboard_at_the_address(raymill, recipe):
    outcome = raymill("submit", str(recipe), "--address", "http://127.0.0.1:1")
    assert outcome.status == 2
    assert "no Ray dashboard answers there" in outcome.stderr
