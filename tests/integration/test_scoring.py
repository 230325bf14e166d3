"""Rows are scored exactly once, whatever is killed meanwhile."""

import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.classifiers import save_classifier
from tests.integration.command import until
from tests.reviews import reviews
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train

FILES, ROWS = 120, 400


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    settings = Tokenizer(algorithm="wordpiece", vocabulary_size=1000)
    folder = tmp_path_factory.mktemp("model")
    return save_classifier(folder, train(reviews()[:500], settings, 64))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A part a file, whose last row cannot be scored."""
    folder, texts = tmp_path_factory.mktemp("source"), reviews()
    for file in range(FILES):
        rows = [
            {"id": file * ROWS + n, "review": texts[(file + n) % len(texts)]} for n in range(ROWS)
        ]
        rows[-1]["review"] = file
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{file:03d}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


def test_it_goes_on_after_kills_with_every_row_once(start, raymill, model, source, tmp_path):
    out, workspace = tmp_path / "out", tmp_path / "mill"
    given = ("score", str(model), f"{source}/*.jsonl", str(out), "--set", "columns.text=review")
    given += ("--workspace", str(workspace))
    command = start(*given)

    def markers(least: int) -> bool:
        return len(list(out.glob("_markers/*.json"))) >= least

    command.until(lambda: markers(2))
    workers = [pid for pid, title in command._titles().items() if "Scorer" in title]
    os.kill(workers[0], signal.SIGKILL)
    done = len(list(out.glob("_markers/*.json")))
    command.until(lambda: markers(done + 4))  # the lost worker is replaced, its parts done again
    for pid in command.processes():  # as when the machine goes
        os.kill(pid, signal.SIGKILL)
    until(lambda: not command.processes())
    done = len(list(out.glob("_markers/*.json")))
    assert done < FILES
    assert not (out / "_manifest.json").exists()

    outcome = raymill(*given)
    assert outcome.status == 0, outcome.stderr
    assert f"goes on after {done} of {FILES} parts" in outcome.stderr
    assert outcome.answer["rows"] == FILES * (ROWS - 1)
    assert outcome.answer["failures"] == {"column 'review' is int, not text": FILES}
    table = pq.read_table(out)
    expected = [n for n in range(FILES * ROWS) if (n + 1) % ROWS]
    assert sorted(table["id"].to_pylist()) == expected
    aside = [
        json.loads(line)
        for path in out.glob("_errors/*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    assert sorted(one["row"]["review"] for one in aside) == [*range(FILES)]
    assert {path.name for path in out.iterdir() if not path.name.startswith("part-")} == {
        *("_plan.json", "_manifest.json", "_errors", ".lock")
    }

    again = raymill(*given)
    assert again.status == 0
    assert "nothing to do" in again.stderr
    assert again.answer["rows"] == FILES * (ROWS - 1)
    other = raymill(*given, "--format", "jsonl")
    assert other.status == 2
    assert "has rows in parquet; they are not mixed" in other.stderr
