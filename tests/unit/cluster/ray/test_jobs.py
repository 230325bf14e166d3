import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from ray.dashboard.modules.job import job_supervisor
from ray.job_submission import JobStatus

from cluster.errors import InfrastructureError, UserError
from cluster.ray import jobs
from cluster.ray.jobs import PACKAGES, RECIPE, _gather
from cluster.recipe.loading import shipped
from tests.fakes import Screen
from trainers.launch.training import GRACE_S

RECIPE_FILE = shipped()["quickstart"]


def test_what_travels_is_raymills_own_code_and_the_recipe(tmp_path: Path) -> None:
    _gather(tmp_path, RECIPE_FILE)
    assert {path.name for path in tmp_path.iterdir()} == {*PACKAGES, RECIPE}
    assert (tmp_path / RECIPE).read_text() == RECIPE_FILE.read_text()
    assert (tmp_path / "cluster" / "__main__.py").is_file()
    assert (tmp_path / "trainers" / "recipes" / "quickstart.yaml").is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 2_000_000


Item = str | Exception | signal.Signals | None


class Client:
    """A job that runs until the last of these connections. What comes over one: pieces of the log
    from its beginning, an error, Ctrl-C, or None: nothing for ever."""

    def __init__(self, *connections: Sequence[Item], log: str = "", code: int | None = 0):
        self._connections, self._log, self._code = list(connections), log, code
        self.stopped = False
        self.calls: list[str] = []
        self.info_errors: list[Exception] = []

    def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        self.entrypoint, self.variables = entrypoint, runtime_env["env_vars"]
        return "job-1"

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        self.calls.append("tail")
        for item in self._connections.pop(0) if self._connections else ():
            if isinstance(item, Exception):
                raise item
            if item is signal.SIGINT:
                signal.raise_signal(item)
            if item is None or item is signal.SIGINT:
                await asyncio.Event().wait()
            assert isinstance(item, str)
            yield item

    def get_job_logs(self, job_id: str) -> str:
        self.calls.append("whole log")
        return self._log

    def get_job_info(self, job_id: str) -> Any:
        self.calls.append("info")
        if self.info_errors:
            raise self.info_errors.pop(0)
        ended = not self._connections or self.stopped
        return SimpleNamespace(
            status=JobStatus(
                ("SUCCEEDED" if self._code == 0 else "FAILED") if ended else "RUNNING"
            ),
            driver_exit_code=self._code,
            message="its end",
            submission_id="job-1",
        )

    def stop_job(self, job_id: str) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RECONNECT_S", 0.0)
    monkeypatch.setattr(jobs, "SILENT_S", 0.03)


def followed(client: Client, screen: Screen, stop_on_interrupt: bool = True) -> Any:
    return jobs.follow(client, "job-1", screen, stop_on_interrupt)


def test_the_cluster_runs_the_recipe_and_is_asked_for_an_answer() -> None:
    client = Client()
    assert jobs.submit(client, RECIPE_FILE, ["--until=shard"]) == "job-1"
    assert client.entrypoint == "python -m cluster run recipe.yaml --until=shard --json"


def test_a_job_that_is_stopped_has_time_for_a_checkpoint() -> None:
    client = Client()
    jobs.submit(client, RECIPE_FILE, [])
    assert int(client.variables["RAY_JOB_STOP_WAIT_TIME_S"]) > GRACE_S
    assert "RAY_JOB_STOP_WAIT_TIME_S" in Path(job_supervisor.__file__).read_text()


@pytest.mark.parametrize("code", [0, 2, 3, 4, 130])
def test_the_log_is_followed_and_the_exit_status_carried(code: int) -> None:
    """Over one connection; the whole log is fetched once, at the end."""
    screen, log = Screen(), "one\ntwo\nthree"
    client = Client(["one\nt", "wo\n", "thr"], log=log, code=code)
    assert followed(client, screen) == (code, {"job": "job-1"})
    assert screen.err.getvalue() == log
    assert client.calls == ["tail", "info", "whole log"]


BROKEN = [
    RuntimeError("WebSocket connection closed unexpectedly with close code 1006"),
    ConnectionRefusedError("gone"),
    aiohttp.ClientConnectionError("gone"),
]


@pytest.mark.parametrize("error", BROKEN)
def test_a_connection_that_breaks_is_made_anew_and_no_line_is_lost_or_comes_twice(
    error: Exception,
) -> None:
    screen, log = Screen(), "one\n二二\none\nfour\n"
    connections = [
        ["one\n二", error],
        [error],
        ["one\n", "二二\no", "ne\n", None],
        ["one\n二二\n", error],
    ]
    client = Client(*connections, log=log)
    client.info_errors = [RuntimeError("status code 500"), ConnectionResetError("gone")]
    assert followed(client, screen)[0] == 0
    assert screen.err.getvalue() == log


def test_a_connection_that_ends_before_the_job_is_made_anew() -> None:
    screen = Screen()
    assert followed(Client(["one\n"], ["one\n", "two\n"], log="one\ntwo\n"), screen)[0] == 0
    assert screen.err.getvalue() == "one\ntwo\n"


def test_a_cluster_that_does_not_answer_is_lost_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_S", -1.0)
    for connection in ([BROKEN[0]], [None]):
        client = Client(connection)
        client.info_errors = [ConnectionRefusedError("gone")]
        with pytest.raises(InfrastructureError, match="lost the cluster while job job-1 ran; it"):
            followed(client, Screen())


@pytest.mark.parametrize("error", BROKEN)
def test_a_long_silence_before_a_connection_breaks_does_not_count_against_the_cluster(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, screen = Client([error], ["one\n"], log="one\n"), Screen()
    client.info_errors = [RuntimeError("status code 500")]

    def clock() -> float:
        return 2 * jobs.PATIENCE_S * client.calls.count("tail")

    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=clock, sleep=lambda _: None))
    assert followed(client, screen)[0] == 0
    assert client.calls == ["tail", "info", "info", "tail", "info", "whole log"]


@pytest.mark.parametrize("code", [None, 1, 127, -9])
def test_a_job_that_did_not_end_by_itself_is_infrastructure(code: int | None) -> None:
    with pytest.raises(InfrastructureError, match=r"job job-1 failed: its end"):
        followed(Client(["one\n"], code=code), Screen())


def test_ctrl_c_stops_the_job_and_waits_for_its_end() -> None:
    client = Client(
        ["one\n", signal.SIGINT], ["one\ninterrupted\n"], ["never"],
        log="one\ninterrupted\n", code=130,
    )  # fmt: skip
    screen = Screen()
    with pytest.raises(KeyboardInterrupt):
        followed(client, screen)
    assert client.stopped
    said = screen.err.getvalue().splitlines()
    assert (said[0], said[-1]) == ("one", "interrupted")


def test_ctrl_c_of_who_follows_a_job_lets_it_go_on() -> None:
    client, screen = Client([signal.SIGINT]), Screen()
    with pytest.raises(KeyboardInterrupt):
        followed(client, screen, stop_on_interrupt=False)
    assert not client.stopped
    assert "job job-1 goes on" in screen.err.getvalue()


def test_the_answer_is_the_last_object_of_the_log_and_not_shown() -> None:
    log = 'shard: a line\n{"status": 1}\n{"no": 1}\n{"status": 2, "run": "r"}\n{"status": ?\n'
    screen = Screen()
    _, answer = followed(Client([log[:20], log[20:]], log=log), screen)
    assert answer == {"job": "job-1", "status": 2, "run": "r"}
    assert screen.err.getvalue() == 'shard: a line\n{"no": 1}\n{"status": ?\n'


def test_a_job_that_is_not_there_is_the_users_mistake() -> None:
    client = Client()
    jobs.refuse_unknown(client, "job-1")
    client.info_errors = [RuntimeError("Request failed with status code 404: Job x does not exist")]
    with pytest.raises(UserError, match="--follow x: the cluster has no such job"):
        jobs.refuse_unknown(client, "x")


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "auto", "ray://head:10001", "http://"])
def test_an_address_of_no_dashboard_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match="expected the dashboard's, such as http://HOST:8265"):
        jobs.connect(address)
