"""What a user sees of the command: exit status, one clear line, one JSON object."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cluster import __version__
from cluster.cli import main as cli_main
from cluster.cli import model_verbs, verbs
from cluster.cli.main import main
from cluster.cli.recorded_run import failures_of, recorded
from cluster.errors import GateRefused, InfrastructureError
from cluster.recipe.loading import load, shipped
from cluster.runs import pipeline, records
from cluster.store.storage import Storage
from tests.fakes import Screen, published, serial, told_training
from trainers.corpora.examples import merge, read_rows, write_splits
from trainers.corpora.reading import path_checks
from trainers.corpora.reading.sources import content_hash
from trainers.corpora.steps import quotes

ROOT = Path(__file__).parents[4]
LABELS = ("good", "bad")
RECIPE = """\
name: demo
workspace: mill
corpora:
  sources:
    good: {path: good.txt, label: good}
    bad: {path: bad.txt, label: bad}
  split: {validation: 0.3, test: 0.3}
pretrain: {model: {}}
finetune: {}
"""


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "demo.yaml").write_text(RECIPE)
    for label in LABELS:
        lines = "".join(f"document {number} is {label}\n" for number in range(40))
        (tmp_path / f"{label}.txt").write_text(lines)
    content_hash.cache_clear()
    # The stage `examples` as if it needed no Ray: unit tests have none.
    without_ray = [
        dataclasses.replace(stage, uses_ray=stage.uses_ray and stage.name != "examples")
        for stage in pipeline.STAGES
    ]
    monkeypatch.setattr(pipeline, "STAGES", tuple(without_ray))
    for module in (read_rows, merge, write_splits, quotes):
        monkeypatch.setattr(module, "each", serial)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON object on stdout, and stderr; as in a process of its own, since a run
    diverts descriptors 1 and 2 for good."""
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        status = main([*arguments, "--json"])
    finally:
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)
    out, err = capfd.readouterr()
    assert out.count("\n") == 1, "one object, on one line, and nothing else"
    answer = json.loads(out)
    assert answer["status"] == status
    assert {"run", "log", "error"} <= set(answer)
    return status, answer, err


def test_check_names_the_stages(capfd: pytest.CaptureFixture[str]) -> None:
    status, answer, err = call(capfd, "check", "demo.yaml", "--set", "serve={}")
    stages = ["examples", "shard", "pretrain", "finetune", "evaluate", "promote", "serve"]
    nothing_ran = {"status": 0, "run": None, "log": None, "error": None}
    sources = [f"{name}: text, label '{name}'; of 40 rows dropped: none" for name in LABELS]
    expected = {
        **nothing_ran,
        "recipe": "demo",
        "stages": stages,
        "gpus": {},
        "warnings": [],
        "sources": sources,
    }
    assert (status, answer) == (0, expected)
    lines = [f"demo.yaml: valid; stages: {', '.join(stages)}", *sources]
    assert err.splitlines() == lines


def test_check_tells_of_gpus(capfd: pytest.CaptureFixture[str]) -> None:
    keys = ("pretrain.gpus_per_worker=1", "pretrain.workers=2", "serve.gpus_per_replica=0.5")
    status, answer, err = call(capfd, "check", "demo.yaml", *(f"--set={key}" for key in keys))
    assert (status, answer["gpus"]) == (0, {"pretrain": 2, "serve": 0.5})
    assert err.endswith("GPUs at least: pretrain 2, serve 0.5\n")


def test_recipes_are_listed_with_what_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    status, answer, err = call(capfd, "recipes")
    assert status == 0
    assert set(answer["recipes"]) == set(shipped())
    assert err.startswith(sorted(shipped())[0])


def test_a_shipped_recipe_is_printed_to_be_copied(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "quickstart"]) == 0
    Path("mine.yaml").write_text(capfd.readouterr().out)
    assert load("mine.yaml") == load("quickstart")
    status, answer, _ = call(capfd, "recipes", "quikstart")
    assert status == 2
    assert "quikstart: no shipped recipe; did you mean 'quickstart'?" in answer["error"]


def test_without_json_answers_go_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "demo.yaml"]) == 0
    out, err = capfd.readouterr()
    assert ("valid" in out, err) == (True, "")


def test_every_key_of_a_recipe_is_listed(capfd: pytest.CaptureFixture[str]) -> None:
    _, answer, _ = call(capfd, "recipes", "--keys")
    keys = {item["key"]: item for item in answer["keys"]}
    assert keys["corpora.sources.NAME.path"]["type"] == "text"
    assert keys["pretrain.learning_rate"]["default"] == "0.001"
    assert keys["pretrain.zero.stage"]["type"] == "0 | 1 | 2 | 3"
    assert not keys["serve.port"]["redoes"]
    _, answer, said = call(capfd, "recipes", "--keys", "serve")
    assert {item["key"].partition(".")[0] for item in answer["keys"]} == {"serve"}
    assert "serve.port: integer = 8000  (a change redoes nothing)" in said


def test_what_kinds_of_a_section_have_alike_is_listed_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, answer, said = call(capfd, "recipes", "--keys", "finetune")
    having: dict[str, list[str]] = {}
    for item in answer["keys"]:
        having.setdefault(item["key"], []).append(item["only"])
    assert having["finetune.epochs"] == [""]
    assert having["finetune.method.hidden_size"] == ["p_tuning"]
    assert having["finetune.head"] == ["ner"]
    assert having["finetune.learning_rate"] == ["chat, classify, generate, ner", "prefer"]
    assert "finetune.learning_rate: number = 1e-06  (of prefer)" in said
    assert "finetune.max_source_length: integer = 512  (of generate)" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "dmeo.yaml"], "dmeo.yaml: no such file or shipped recipe"),
        (["check", "demo.yaml", "--set", "seed"], "--set 'seed': expected KEY=VALUE"),
        (["check", "demo.yaml", "--set", "pretrain.epoch=2"], "did you mean 'epochs'?"),
        (["run", "demo.yaml", "--until", "pretrian"], "--until pretrian: this recipe's stages are"),
        (["run", "demo.yaml", "--from", "finetune"], "--from finetune: stage examples was not"),
        (["run", "demo.yaml", "--workspace", "good.txt"], "cannot make"),
        (["run", "demo.yaml", "--set", "corpora.sources.bad.path=gone.txt"], "gone.txt"),
        (["tune", "demo.yaml"], "--until tune: this recipe's stages are"),
        (["run", "demo.yaml", "--from", "finetune", "--until", "shard"], "shard comes before"),
        (["check", "demo.yaml", "--set", "corpora.sources.bad.path=gone.txt"], "no file matches"),
        (["check", "demo.yaml", "--set", "serve.gate.accuracy=85"], "from 0 to 1, found 85"),
        (["status"], "workspace: no folder"),
        (["status", "--workspace", "s3:/mill"], "did you mean 's3://mill'?"),
        (
            ["evaluate", "m", "--workspace", ".", "--set", "seed=2"],
            "--set: goes with a recipe or with --data; m is a model",
        ),
        (
            ["evaluate", "m", "--workspace", ".", "--data", "x.csv", "--set", "colum.text=a"],
            "did you mean 'columns'?",
        ),
        (
            ["evaluate", "demo", "--workspace", ".", "--against", "demo"],
            "demo: no such model in",
        ),
        (
            ["evaluate", "demo.yaml", "--data", "x.csv"],
            "--data: goes with a MODEL, and demo.yaml is a recipe's file; the newest model that it "
            "made is called demo, or name one by its id (model/...)",
        ),
        (["score", "demo.yaml", "a", "b"], "demo.yaml is a recipe's file; the newest model"),
        (
            ["evaluate", "demo.yaml", "--gpus-per-worker", "1"],
            "--gpus-per-worker: goes with a MODEL",
        ),
        (["status", "nothing", "--workspace", "."], "nothing: no such run"),
        (["status", "--open", "--workspace", "."], "--open, --html: name the run"),
        (["status", "--html", "--workspace", "."], "--open, --html: name the run"),
        (["evaluate", "nothing", "--workspace", "."], "nothing: no such model in"),
        (["score", "nothing", "a", "b", "--workspace", "."], "nothing: no such model in"),
        (["promote", "nothing", "--workspace", "."], "nothing: no such model in"),
        (["promote", "nothing", "--gate", "accuracy"], "--gate 'accuracy': expected METRIC=NUMBER"),
        (["serve", "nothing", "--workspace", "."], "nothing: no such promotion in"),
        (["recipes", "--keys", "srve"], "--keys srve: no such key; did you mean 'serve'?"),
        (["submit", "demo.yaml", "--address", "http://127.0.0.1:1"], "workspace: 'mill' is rela"),
        (
            ["submit", "demo.yaml", "--address", "http://127.0.0.1:1", "--workspace", "/mill"],
            "good.txt' is relative",
        ),
        (["submit", "dmeo.yaml", "--address", "http://127.0.0.1:1"], "dmeo.yaml: no such file"),
        (["submit", "--address", "http://127.0.0.1:1"], "name a RECIPE to run, or --follow"),
        (
            ["submit", "demo.yaml", "--follow", "job-1", "--address", "http://127.0.0.1:1"],
            "--follow job-1: goes with --address alone",
        ),
    ],
)
def test_the_users_mistake_is_one_line_and_status_2(
    capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, answer, err = call(capfd, *arguments)
    assert status == 2
    assert says in answer["error"]
    assert err == f"raymill: {answer['error']}\n"


def test_scoring_does_not_wait_for_what_endpoints_hold(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("model").mkdir()
    Path("model/raymill.json").write_text('{"task": "classify"}')
    cluster = contextlib.nullcontext({"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setattr(model_verbs, "connected", lambda *_, **__: cluster)
    monkeypatch.setattr(model_verbs, "nodes", lambda: [{"CPU": 0.0, "GPU": 0.0}])
    monkeypatch.setattr(model_verbs, "held", lambda: {"CPU": 2.0})
    status, answer, _ = call(capfd, "score", "model", "good.txt", "out")
    assert status == 2
    assert "the cluster has 2, of which endpoints hold 2" in answer["error"]


def test_every_problem_of_a_recipe_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    overrides = ["--set", "sede=1", "--set", "pretrain.epochs=no"]
    status, answer, err = call(capfd, "check", "demo.yaml", *overrides)
    assert status == 2
    assert len(answer["error"].splitlines()) == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["mill"], ["run"], ["submit", "demo.yaml"], ["--x"]])
def test_wrong_arguments_are_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_the_version_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f"raymill {__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InfrastructureError("three nodes lost"), 3, "three nodes lost"),
        (GateRefused("accuracy 0.7 is below 0.8"), 4, "accuracy 0.7 is below 0.8"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("ours"), 3, "unexpected error ZeroDivisionError('ours')"),
    ],
)
def test_every_ending_has_its_status(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    says: str,
) -> None:
    def fails(*_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(verbs, "recipes", fails)
    found, answer, err = call(capfd, "recipes")
    assert found == status
    assert answer["error"]
    assert says in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_like_ctrl_c(
    number: signal.Signals, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "recipes", lambda *_: signal.raise_signal(number))
    status, answer, _ = call(capfd, "recipes")
    assert (status, answer["error"]) == (130, "interrupted; what was finished is kept")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_neither_sigterm_nor_a_closed_terminal_is_a_second_ctrl_c(
    first: signal.Signals,
    second: signal.Signals,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GNU timeout sends SIGTERM to the process and then to its group, which it is in."""
    ended = []

    def recipes(*_: object) -> None:
        try:
            signal.raise_signal(first)
        except KeyboardInterrupt:
            signal.raise_signal(second)
            signal.raise_signal(second)
            ended.append("with a checkpoint")
            raise

    monkeypatch.setattr(verbs, "recipes", recipes)
    assert call(capfd, "recipes")[0] == 130
    assert ended


@pytest.mark.parametrize(("seconds", "times"), [(0.01, 1), (3.0, 2)])
def test_a_ctrl_c_that_comes_twice_is_one(
    seconds: float, times: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By GNU timeout, to the process and to its group. A second one is pressed later."""
    now, heard = [100.0], []
    monkeypatch.setattr(cli_main, "monotonic", lambda: now[0])

    def recipes(*_: object) -> None:
        for _ in range(2):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                heard.append(now[0])
            now[0] += seconds
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "recipes", recipes)
    assert call(capfd, "recipes")[0] == 130
    assert len(heard) == times


def test_under_nohup_a_closed_terminal_ends_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipes(*_: object) -> tuple[int, dict[str, Any]]:
        signal.raise_signal(signal.SIGHUP)
        return 0, {}

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(verbs, "recipes", recipes)
    assert call(capfd, "recipes")[0] == 0


def test_a_training_is_drawn_while_it_goes_on(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """From another process, which sees storage alone."""
    storage = Storage.at("mill")
    for name, text in told_training().items():
        storage.write(f"work/demo-pretrain-01/{name}", text.encode())
    with records.recorded(storage, "demo") as run, run.stage("pretrain") as stage:
        stage.artifact = "model/demo-pretrain-01"
        run.save()
        _, answer, err = call(capfd, "status", "demo", "--workspace", "mill", "--html")
    assert answer["runs"][0]["status"] == "running"
    assert "pretrain: goodput 72.1% of 1.9 min" in err
    assert answer["journals"]["pretrain"]["goodput"] == 0.7207
    assert answer["reports"] == {"run": f"{tmp_path}/mill/runs/{run.id}/report.html"}
    assert "<svg" in Path(answer["reports"]["run"]).read_text("utf-8")


def test_a_run_is_done_once_and_its_status_told(capfd: pytest.CaptureFixture[str]) -> None:
    """The one stage that needs no Ray, from the command to the artifact."""
    command = ("run", "demo.yaml", "--until", "examples")
    status, answer, err = call(capfd, *command)
    assert status == 0
    assert [(stage["stage"], stage["status"]) for stage in answer["stages"]] == [
        ("examples", "done")
    ]
    assert "examples: 80 labelled documents, dropped: none; train" in err
    artifact = answer["stages"][0]["artifact"]
    assert (Path("mill") / artifact / "manifest.json").is_file()

    status, again, err = call(capfd, *command)
    assert [(stage["status"], stage["artifact"]) for stage in again["stages"]] == [
        ("skipped", artifact)
    ]
    assert "demo: nothing to do, every artifact is there" in err

    status, answer, err = call(capfd, "status", "--workspace", "mill")
    assert {run["status"] for run in answer["runs"]} == {"done"}
    assert again["run"] in err

    status, answer, err = call(capfd, "status", "demo", "--workspace", "mill")
    assert (status, len(answer["runs"])) == (0, 1), "the newest of the recipe"
    assert "read 80  kept 80" in err
    page = Path("mill").absolute() / artifact / "report.html"
    assert page.is_file()
    assert answer["reports"] == {"examples": str(page)}
    assert f"examples report  {page}" in err


@pytest.mark.parametrize("has_browser", [True, False])
def test_a_runs_reports_are_opened(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, has_browser: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or has_browser)
    _, answer, _ = call(capfd, "run", "demo.yaml", "--until", "examples")
    status, answer, err = call(capfd, "status", answer["run"], "--workspace", "mill", "--open")
    assert status == 0
    assert opened == [f"file://{answer['reports']['examples']}"]
    assert ("no browser here" in err) is not has_browser


def test_a_run_without_a_report_has_none_to_open(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_checks, "ROWS", 0)  # so that a run finds what is wrong
    refused = ("--set", "finetune.labels=[other, good]")
    call(capfd, "run", "demo.yaml", "--until", "examples", *refused)
    status, answer, _ = call(capfd, "status", "demo", "--workspace", "mill", "--open")
    assert status == 2
    assert "has no report yet" in answer["error"]


def test_a_failed_run_is_named_with_its_log(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_checks, "ROWS", 0)
    refused = ("--set", "finetune.labels=[other, good]")
    status, answer, _ = call(capfd, "run", "demo.yaml", "--until", "examples", *refused)
    assert status == 2
    assert "label 'bad' is not in finetune.labels" in answer["error"]
    assert answer["run"].endswith("-demo")
    assert Path(answer["log"]) == Path("mill/runs").absolute() / answer["run"] / "log.txt"
    assert Path(answer["log"]).is_file()
    status, answer, _ = call(capfd, "check", "demo.yml")
    assert (answer["run"], answer["log"]) == (None, None), "there was no run"


def test_a_full_disk_is_infrastructure_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, storage = Screen(), Storage.at(str(tmp_path))
    monkeypatch.setattr(screen, "divert", lambda run, log: None)
    with (
        pytest.raises(InfrastructureError) as caught,
        recorded("demo", storage, screen),
    ):
        raise OSError(errno.ENOSPC, "Error writing bytes to file")
    assert str(caught.value).startswith(f"{tmp_path}: No space left on device; free space there")
    assert records.listed(storage)[-1]["error"] == str(caught.value)
    with pytest.raises(PermissionError), recorded("demo", storage, screen):
        raise PermissionError(errno.EACCES, "not yours")


def test_an_object_store_that_fails_is_infrastructure() -> None:
    storage = Storage("s3://mill")
    with (
        pytest.raises(InfrastructureError, match=r"^s3://mill: .*: AWS Error SLOW_DOWN; mend the"),
        failures_of(storage),
    ):
        raise OSError("AWS Error SLOW_DOWN")
    with (
        pytest.raises(InfrastructureError, match=r"^~/\.cache/raymill or the temporary folder: No"),
        failures_of(storage),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    for other in (ConnectionError("of something else"), OSError(errno.EMFILE, "many open files")):
        with (
            pytest.raises(type(other), match=r"of something else|many open files"),
            failures_of(storage),
        ):
            raise other


LOGS_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from cluster.cli import main, verbs

def breaks(options, terminal):
    terminal.divert("demo", Path("/dev/full"))
    for stream in (sys.stdout, sys.stderr):
        stream.write("what a library prints")
    raise ZeroDivisionError("ours")

verbs.recipes = breaks
sys.exit(main.main(["recipes"]))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_that_takes_nothing_changes_no_exit_status() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    code = [sys.executable, "-c", LOGS_ON_A_FULL_DISK]
    ended = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert ended.stderr == (
        "raymill: unexpected error ZeroDivisionError('ours'); /dev/full has the traceback\n"
    )


def test_a_model_is_named_by_its_recipe_or_by_its_folder(
    capfd: pytest.CaptureFixture[str],
) -> None:
    storage = Storage.at("mill")
    task = {"finetune": {"task": "classify"}}
    model = published(storage, "model/demo-finetune-0a", inputs=task)
    published(
        storage,
        "evaluation/demo-evaluate-0b",
        parents={"finetune": model.id},
        metrics={"test": {"accuracy": 0.8}},
    )
    status, by_name, err = call(capfd, "promote", "demo", "--workspace", "mill")
    assert status == 0
    assert err.startswith(f"demo: takes {model.id}, made ")
    status, by_path, err = call(capfd, "promote", f"mill/{model.id}/")
    assert (status, by_path) == (0, by_name)
    assert "takes" not in err
    given = ("evaluate", model.id, "--workspace", "mill", "--against", "demo.yaml")
    status, answer, _ = call(capfd, *given)
    assert status == 2
    assert answer["error"].startswith("demo.yaml is a recipe's file; the newest model that it made")


def test_an_evaluation_is_told_with_the_place_of_its_report(
    capfd: pytest.CaptureFixture[str],
) -> None:
    storage, task = Storage.at("mill"), {"finetune": {"task": "classify"}}
    examples = {"examples": published(storage, "examples/demo-examples-0c").id}
    card = {"raymill.json": "{}"}
    model = published(storage, "model/demo-finetune-0a", card, examples, inputs=task)
    made = published(
        storage,
        "evaluation/demo-evaluate-0b",
        {"report.html": ""},
        parents={**examples, "finetune": model.id},
        metrics={"test": {"accuracy": 0.8}},
    )
    status, answer, err = call(capfd, "evaluate", "demo", "--workspace", "mill")
    report = f"{storage.root}/{made.id}/report.html"
    assert (status, answer["reports"]) == (0, {"evaluate": report})
    assert err.endswith(f"evaluate report  {report}\n")


def test_status_lists_what_killed_runs_left(capfd: Any, tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    storage.write("work/old-shard-01/documents/0.arrow", b"x" * 10)
    status, answer, err = call(capfd, "status", "--workspace", storage.root)
    assert status == 0
    (left,) = answer["left"]
    assert (left["name"], left["bytes"]) == ("work/old-shard-01", 10)
    assert f"{storage.root}/work/old-shard-01" in err
