import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import summary
from cluster.store.lookup import placed
from cluster.store.storage import Storage
from tests.fakes import published


def stage(name: str, artifact: str | None = None, **metrics: Any) -> dict[str, Any]:
    record = {"stage": name, "status": "done", "artifact": artifact, "seconds": 12.34}
    return {**record, "metrics": metrics}


def run(*stages: dict[str, Any], error: str = "") -> dict[str, Any]:
    return {
        "id": "20261124-150405-123456-demo",
        "recipe": "demo",
        "started": "2026-11-24T15:04:05Z",
        "status": "failed" if error else "done",
        "error": error,
        "stages": list(stages),
    }


SHARD = stage(
    "shard",
    splits={"train": {"tokens": 3584840, "sequences": 28037}},
    packing_efficiency=0.998894,
    sources={"news": {"read": 19484}},
)


def test_runs_are_a_line_each_under_their_headings() -> None:
    failed = run(SHARD, stage("pretrain"), error="pretrain: loss is not a number\nlower the rate")
    assert summary.overview([run(stage("examples")), failed]) == [
        "RUN                          STATUS  TOOK    STAGES",
        "20261124-150405-123456-demo  done    12.3 s  examples",
        "20261124-150405-123456-demo  failed  24.7 s  "
        "shard, pretrain: pretrain: loss is not a number",
    ]


def test_one_run_shows_its_stages_its_pages_and_its_log() -> None:
    record = run(stage("examples", kept=80), SHARD)
    shown = summary.detail(record, {}, {"shard report": "/mill/report.html", "log": "/log"})
    assert shown == [
        "20261124-150405-123456-demo  done, started 2026-11-24T15:04:05Z",
        "",
        "  examples  done  12.3 s  kept 80",
        "  shard     done  12.3 s  tokens 3,584,840  sequences 28,037",
        "",
        "  shard report  /mill/report.html",
        "  log           /log",
    ]


def test_a_run_that_failed_before_its_first_stage_tells_its_whole_error() -> None:
    shown = summary.detail(run(error="one\ntwo"), {}, {"log": "/log"})
    assert shown[1:] == ["  one", "  two", "", "  log  /log"]


def test_a_stage_that_runs_has_taken_no_time_yet() -> None:
    running = {**stage("pretrain"), "status": "running", "seconds": 0.0}
    shown = summary.detail(run(SHARD, running), {}, {"log": "/log"})
    assert shown[3] == "  pretrain  running"


def test_the_headline_is_the_first_metrics_that_a_line_can_show() -> None:
    test = {"accuracy": 0.91234567, "confusion": [[1, 0], [0, 1]]}
    evaluate = stage("evaluate", test=test, headline={"test accuracy": 0.91234567})
    assert summary.headline(evaluate) == "test accuracy 0.9123"
    pretrain = stage("pretrain", loss=7.9, worse=False, tokens_per_second=19206, a=1, b=2, c=3, d=4)
    assert summary.headline(pretrain) == "loss 7.9  tokens/s 19,206  a 1  b 2  c 3"
    url = "http://127.0.0.1:8000"
    assert summary.headline(stage("serve", url=url)) == f"url {url}"


def test_a_curve_is_a_row_of_blocks() -> None:
    assert summary.curve([8.0, 5.0, 4.0, 1.0]) == "█▅▄▁"
    assert summary.curve([2.0]) == "▁"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (99.9, "99.9 s"), (100, "1.7 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert summary.duration(seconds) == shown


def test_pages_are_those_that_manifests_list(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = published(storage, "corpus/demo-shard-00", {"report.html": "<p>页", "big": "0"})
    published(storage, "model/demo-pretrain-00", {"config.json": "{}"})
    record = run(
        stage("shard", corpus.id),
        stage("pretrain", "model/demo-pretrain-00"),
        stage("finetune", "model/demo-finetune-gone"),
        stage("serve"),
    )
    found = summary.pages(storage, record)
    assert found == {"shard": "corpus/demo-shard-00/report.html"}
    storage.write(f"runs/{record['id']}/report.html", b"<p>run")
    assert list(summary.pages(storage, record)) == ["shard", "run"]
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    assert summary.open_page(storage, found["shard"])
    page = Path(urllib.request.url2pathname(urllib.parse.urlparse(opened[0]).path))
    assert page.read_text("utf-8") == "<p>页"
    assert storage.is_local is (page.parent / "big").exists(), "of a remote one, the page alone"


def test_models_are_shown_as_other_verbs_take_them(storage: Storage) -> None:
    made = published(storage, "model/demo-pretrain-00")
    failed = {**stage("finetune", "model/demo-finetune-00"), "status": "failed"}
    record = run(stage("shard", "corpus/demo-shard-00"), stage("pretrain", made.id), failed)
    found = summary.models(storage, record)
    assert found == {"pretrain": f"{storage.root}/{made.id}"}
    assert placed(found["pretrain"], None) == (storage, made.id)
