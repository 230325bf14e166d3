from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import InfrastructureError, UserError
from cluster.ray import jobs
from cluster.ray.jobs import PACKAGES, RECIPE, Followed, _gather, answer, submit
from cluster.recipe.loading import shipped
from tests.fakes import Screen

RECIPE_FILE = shipped()["quickstart"]


def test_what_travels_is_raymills_own_code_and_the_recipe(tmp_path: Path) -> None:
    _gather(tmp_path, RECIPE_FILE)
    assert {path.name for path in tmp_path.iterdir()} == {*PACKAGES, RECIPE}
    assert (tmp_path / RECIPE).read_text() == RECIPE_FILE.read_text()
    assert (tmp_path / "cluster" / "__main__.py").is_file()
    assert (tmp_path / "trainers" / "recipes" / "quickstart.yaml").is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 1_000_000


class Client:
    """A job whose log grows by a line a look, or whose cluster does not answer."""

    def __init__(self, *looks: str | BaseException, code: int | None = 0):
        self._looks, self._code = list(looks), code
        self._log = ""
        self.stopped = False

    def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        self.entrypoint = entrypoint
        return "job-1"

    def get_job_status(self, job_id: str) -> Any:
        look = self._looks.pop(0)
        if isinstance(look, BaseException):
            raise look
        self._log += look
        is_last = not self._looks or self.stopped
        return SimpleNamespace(is_terminal=lambda: is_last)

    def get_job_logs(self, job_id: str) -> str:
        return self._log

    def get_job_info(self, job_id: str) -> Any:
        status = "SUCCEEDED" if self._code == 0 else "FAILED"
        return SimpleNamespace(driver_exit_code=self._code, status=status, message="its end")

    def stop_job(self, job_id: str) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_S", 0.0)


def submitted(monkeypatch: pytest.MonkeyPatch, client: Client, screen: Screen) -> Any:
    monkeypatch.setattr(jobs, "_client", lambda address: client)
    return submit("http://head:8265", RECIPE_FILE, ["--until=shard"], screen)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 130])
def test_the_log_is_followed_and_the_exit_status_carried(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    client, screen = Client("one\n", "two\n", "", "three\n", code=code), Screen()
    assert submitted(monkeypatch, client, screen) == (code, {"job": "job-1"})
    assert client.entrypoint == "python -m cluster run recipe.yaml --until=shard"
    assert screen.err.getvalue().splitlines()[1:] == ["one", "two", "three"]


@pytest.mark.parametrize("code", [None, 1, 127, -9])
def test_a_job_that_did_not_end_by_itself_is_infrastructure(
    monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    with pytest.raises(InfrastructureError, match=r"job job-1 failed: its end"):
        submitted(monkeypatch, Client("one\n", code=code), Screen())


def test_ctrl_c_stops_the_job_and_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("one\n", KeyboardInterrupt(), "interrupted\n", "never seen\n", code=130)
    screen = Screen()
    with pytest.raises(KeyboardInterrupt):
        submitted(monkeypatch, client, screen)
    assert client.stopped
    said = screen.err.getvalue().splitlines()
    assert (said[1], said[-1]) == ("one", "interrupted")


def test_a_cluster_that_does_not_answer_for_a_moment_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = [ConnectionRefusedError("gone"), RuntimeError("status code 500")]
    screen = Screen()
    Followed(Client("one\n", *gone, "two\n"), "job-1", screen).to_its_end()
    assert screen.err.getvalue() == "one\ntwo\n"
    monkeypatch.setattr(jobs, "PATIENCE_S", -1.0)
    with pytest.raises(InfrastructureError, match="lost the cluster while job job-1 ran; it may"):
        Followed(Client("one\n", *gone, "two\n"), "job-1", screen).to_its_end()


def test_what_a_job_answered_is_its_last_object() -> None:
    log = 'shard: a line\n{"status": 1}\n{"no": 1}\n{"status": 2, "run": "r"}\nlater chatter\n'
    assert answer(log) == {"status": 2, "run": "r"}
    assert answer("Traceback\n") == {}


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "auto", "ray://head:10001", "http://"])
def test_an_address_of_no_dashboard_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match="expected the dashboard's, such as http://HOST:8265"):
        jobs._client(address)
