"""A stage of corpora whose disk is full says so, keeps what is done, and goes on where there is
room."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.integration.command import ROOT
from tests.integration.test_corpora_kills import written_recipe

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""In which anyone can mount."""
SCRIPT = """
mount -t tmpfs -o size=700k tmpfs "$1" || exit
"$2" -m cluster shard "$3" --workspace "$1" --json
echo "$?"
find "$1" -name manifest.json
mount -o remount,size=64m "$1"
"$2" -m cluster shard "$3" --workspace "$1" --json
echo "$?"
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="no namespace of its own to mount a small disk in",
)
def test_a_full_disk_costs_nothing_that_is_done(tmp_path):
    workspace = tmp_path / "small"
    workspace.mkdir()
    given = [str(workspace), sys.executable, str(written_recipe(tmp_path))]
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", SCRIPT, "sh", *given],
        cwd=ROOT, text=True, capture_output=True, timeout=900,
    )  # fmt: skip
    full, status, again, status_again = done.stdout.splitlines()
    assert status == "3", done.stderr
    assert f"{workspace}: No space left on device; free space there" in json.loads(full)["error"]
    assert status_again == "0", done.stderr
    assert json.loads(again)["stages"][-1]["status"] == "done"
    assert "goes on after" in done.stderr
