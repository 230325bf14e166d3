"""Rows are scored exactly once, whatever is killed meanwhile; and evaluated by the same workers."""

import contextlib
import functools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from unittest import mock

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.errors import InfrastructureError
from cluster.ray import session
from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.classifiers import LABELS, save_classifier
from tests.fakes import Notes
from tests.integration.command import until
from tests.reviews import reviews
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.config import Tokenizer
from trainers.corpora.reading.config import Source
from trainers.corpora.tokens.tokenizer import train
from trainers.scoring.evaluation.figures import figures
from trainers.scoring.evaluation.labelled import rows
from trainers.scoring.evaluation.score_rows import PART_ROWS, record_part
from trainers.scoring.workers import TRIES, PartsDone, Room, score_parts
from trainers.tasks.classify.spec import Classify
from trainers.tasks.predictor import load

FILES, ROWS = 60, 400


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
    of_texts = table.group_by("review").aggregate([("prediction_score", "min_max")])
    assert len(of_texts) < FILES + ROWS, "each text is in many files"
    scores = of_texts["prediction_score_min_max"].combine_chunks()
    spread = pc.subtract(scores.field("max"), scores.field("min"))
    assert pc.max(spread).as_py() < 1e-5, "whoever answers it, before a kill or after"
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


class Unloaded:
    """A model of which nothing is asked."""

    def load(self, device):
        return None


def dies(deaths, *_):
    tempfile.mkstemp(dir=deaths)
    os._exit(1)


def test_a_part_that_its_workers_die_of_ends_the_command(tmp_path):
    part, done = {0: {}}, PartsDone(Notes(), {}, 1)
    with (
        mock.patch.dict(os.environ),
        session.connected(None, 2) as resources,
        pytest.raises(InfrastructureError, match="a process was lost"),
    ):
        score_parts(
            Unloaded(), functools.partial(dies, tmp_path), part, Room([resources], resources), done
        )
    assert len([*tmp_path.iterdir()]) == TRIES


@pytest.fixture
def copied(model, tmp_path) -> Path:
    """The model as a recipe leaves it, copied out of its workspace."""
    storage = Storage.at(str(tmp_path / "origin"))
    with drafting(storage, "model/demo-finetune-00") as draft:
        with draft.folder() as folder:
            shutil.copytree(model, folder, dirs_exist_ok=True)
        inputs = {"finetune": {"task": "classify", "max_length": 16}}
        made = draft.publish(recipe="demo", stage="finetune", parents={}, inputs=inputs, metrics={})
    return Path(shutil.copytree(made.path, tmp_path / "copy"))


def test_a_labelled_file_is_evaluated_by_the_workers_that_score(
    raymill, raymill_at_head, copied, tmp_path
):
    source, texts = tmp_path / "labelled.jsonl", reviews()
    labelled = [
        {"text": f"{n} {texts[n % len(texts)]}", "label": LABELS[n % len(LABELS)]}
        for n in range(PART_ROWS + 200)
    ]
    source.write_text("\n".join(map(json.dumps, labelled)), "utf-8")
    given = ("evaluate", str(copied), "--data", str(source), "--workspace", str(tmp_path / "mill"))

    outcome = raymill_at_head(*given)
    assert outcome.status == 0, outcome.stderr
    assert "evaluate: 2 workers x 1 CPU, 2 parts" in outcome.stderr
    task = Classify(max_length=16)
    read, _ = rows(Source(path=str(source)), task, Clean())
    part = {"first": 0, "rows": read}
    expected = record_part(load(copied), 0, part, Notes(), contextlib.nullcontext())["records"]
    found = outcome.answer["data"]
    assert {name: found[name] for name in ("accuracy", "confusion")} == {
        name: figures(task, expected)[name] for name in ("accuracy", "confusion")
    }
    again = raymill(*given)
    assert again.answer["evaluation"] == outcome.answer["evaluation"]
    assert Path(again.answer["reports"]["evaluate"]).is_file()
    assert "workers" not in again.stderr, "it was found, and no Ray was started"

    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    damaged = raymill(*given, "--set", "encoding=utf-8")
    assert damaged.status == 2
    assert f"{copied} is damaged: model.safetensors has other bytes" in damaged.stderr
