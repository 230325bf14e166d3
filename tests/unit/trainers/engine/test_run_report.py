"""The page of a run."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from cluster.runs import stored_journals
from cluster.store.storage import Storage
from tests.fakes import published, told_training
from trainers.engine.run_report import run_page

RUN = {
    "id": "20261124-150405-123456-demo",
    "status": "failed",
    "error": "pretrain: the loss is <nan>",
    "stages": [
        {
            "stage": "pretrain",
            "status": "failed",
            "artifact": "model/demo-pretrain-0123",
            "seconds": 111.0,
            "metrics": {},
        }
    ],
}


def test_a_page_has_curves_and_where_time_went(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    published(storage, "model/demo-pretrain-0123", told_training())
    page = run_page(RUN, stored_journals.of_run(storage, RUN))
    plots = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert len(plots) == 3, "loss, learning rate, validation's accuracy"
    assert "the loss is &lt;nan&gt;" in page
    assert "pretrain: goodput</dt><dd>72.1%" in page
    assert "restart" in page
    assert not re.search(r"\b(src|href)=.http", page), "it needs nothing from elsewhere"


def test_a_run_without_trainings_has_a_page() -> None:
    assert "<h1>Run</h1>" in run_page({**RUN, "stages": []}, {})
