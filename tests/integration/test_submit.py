"""A recipe as a Ray job, on a real `ray start --head`."""

import shlex
import subprocess

from tests.integration.command import RAY, ROOT


def test_submit_follows_the_log_and_carries_the_status(head, raymill, recipe, tmp_path):
    arguments = ("submit", str(recipe), "--address", head.dashboard, "--workspace", str(tmp_path))
    failed = raymill(*arguments, "--until", "examples", "--set", "finetune.labels=[good, fair]")
    assert failed.status == 2
    assert "label 'bad' is not in finetune.labels (good, fair)" in failed.stderr


def test_a_job_goes_on_by_itself_and_is_followed_by_its_id(head, raymill, recipe, tmp_path):
    address, arguments = head.dashboard, ("--workspace", str(tmp_path), "--until", "examples")
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
    command = f"python -m cluster run {recipe} --until examples --workspace {tmp_path}"
    finished = subprocess.run(
        [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--",
         *shlex.split(command)],
        cwd=ROOT, env=head.environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert list(tmp_path.glob("examples/tiny-examples-*/manifest.json"))


def test_no_dashboard_at_the_address(raymill, recipe):
    outcome = raymill("submit", str(recipe), "--address", "http://127.0.0.1:1")
    assert outcome.status == 2
    assert "no Ray dashboard answers there" in outcome.stderr
