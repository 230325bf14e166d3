"""Short stand-ins for what a unit test must not start or wait for."""

import contextlib
import io
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Terminal
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage

if TYPE_CHECKING:
    from trainers.tasks.predictor import Predictor

TEXTS = (
    "今天天气很好，我们去公园散步。",
    "这家酒店的服务很差，房间也不干净。",
    "这本书很好看，我一口气读完了。",
    "Hello world, this is a test.",
    "The quick brown fox jumps over the lazy dog.",
)
"""What the tiny tokenizer is trained on."""


class Screen(Terminal):
    """A Terminal that keeps what is written to it."""

    out: io.StringIO
    err: io.StringIO

    def __init__(self, is_terminal: bool = False):
        self.out, self.err = io.StringIO(), io.StringIO()
        self.run = self.log = None
        self.err.isatty = lambda: is_terminal  # type: ignore[method-assign]


class Notes:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.updates: list[tuple[float, float, str]] = []
        self.metrics: list[dict[str, float | int | str]] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        self.updates.append((done, total, unit))
        self.metrics.append(metrics)


def serial(
    job: StageJob,
    step: str,
    items: Mapping[str, Any],
    function: Callable[[str, Any], Any],
    done: str,
) -> Iterator[tuple[str, Any]]:
    """`parallel.each` without a cluster: items in the reverse order, outcomes through JSON."""
    for name, item in reversed(items.items()):
        yield name, json.loads(json.dumps(function(name, pickle.loads(pickle.dumps(item)))))


def scored_here(model: Any, work: Any, parts: Mapping[int, Any], room: Any, done: Any) -> None:
    """`score_parts` without a cluster: parts in the reverse order, and all through JSON."""
    from trainers.tasks.predictor import CPU

    predictor = model.load(CPU)
    for number, part in reversed(parts.items()):
        given = json.loads(json.dumps(part)), done, contextlib.nullcontext()
        done.finish(number, json.loads(json.dumps(work(predictor, number, *given))))


def recorded_here(predictor: Any, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What evaluation keeps of rows."""
    outputs = predictor.predict([predictor.input_of(row) for row in rows])
    records: list[dict[str, Any]] = predictor.records(rows, outputs)
    return records


class ReplicaHere:
    """The replica of an endpoint, as its HTTP API knows it, whose model is in this process."""

    name, version = "names", "00"

    def __init__(self, predictor: "Predictor"):
        self._predictor = predictor

    async def answers(self, inputs: list[Any], truncate: bool) -> list[Any]:
        return self._predictor.predict(inputs)

    def describe(self) -> dict[str, Any]:
        return self._predictor.describe()


class FlakyFileSystem:
    """A pyarrow filesystem of which every third call fails, as on a connection that breaks."""

    def __init__(self, filesystem: Any):
        self._filesystem = filesystem
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._filesystem, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls % 3 == 0:
                raise OSError("connection reset by peer")
            return method(*arguments, **named)

        return call

    @classmethod
    def under(cls, storage: Storage) -> "FlakyFileSystem":
        """Put under a storage that is open."""
        filesystem, path = storage._fs
        flaky = cls(filesystem)
        storage.__dict__["_fs"] = flaky, path
        return flaky


class EmptyStorage:
    """A workspace in which nothing was ever made."""

    root = "empty"

    def read(self, name: str) -> bytes:
        raise FileNotFoundError(name)


def published(
    storage: Storage,
    artifact_id: str,
    files: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Artifact:
    """An artifact with these files, as a stage would have left it."""
    recipe, stage, _ = artifact_id.partition("/")[2].rsplit("-", 2)
    with artifacts.drafting(storage, artifact_id) as draft:
        with draft.folder() as folder:
            for name, text in (files or {}).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return draft.publish(
            recipe=recipe,
            stage=stage,
            parents=parents or {},
            inputs=inputs or {},
            metrics=metrics or {},
        )


def writing_stage(job: StageJob) -> dict[str, Any]:
    """A stage that leaves one file."""
    with job.draft.folder() as folder:
        (folder / "made.txt").write_text("made", encoding="utf-8")
    return {"made": 1}


def failing_stage(job: StageJob) -> dict[str, Any]:
    """A stage that writes, and then fails."""
    writing_stage(job)
    raise RuntimeError("in the middle")


def folder_of_package(parent: Path, name: str, files: Mapping[str, str]) -> None:
    """An importable package that ships data files."""
    (parent / name).mkdir()
    (parent / name / "__init__.py").write_text("", encoding="utf-8")
    for file, text in files.items():
        (parent / name / file).write_text(text, encoding="utf-8")


def told_training() -> dict[str, str]:
    """The files of a training of 100 steps that lost a worker at step 60 and ten seconds of work:
    80 s of computing, 5 of evaluation, 6 of start and 10 of restart, in all 111."""
    lines: list[dict[str, Any]] = [
        {"step": step, "time": 1e9 + step, "loss": 8 - (step - 1) / 50, "learning_rate": 1e-3}
        for step in range(1, 101)
    ]
    for step, accuracy in ((50, 0.25), (100, 0.5)):
        lines[step - 1]["validation"] = {"loss": 7.0, "accuracy": accuracy}
    entries = [
        {"at": 1e9, "what": "command"},
        {"at": 1e9 + 6, "what": "start", "step": 0, "workers": 2},
        {"at": 1e9 + 46, "what": "steps", "step": 50, "saved": True, "spent": {"evaluation": 2.5}},
        {"at": 1e9 + 56, "what": "steps", "step": 60},
        {"at": 1e9 + 66, "what": "start", "step": 50, "workers": 2},
        {"at": 1e9 + 111, "what": "steps", "step": 100, "spent": {"evaluation": 2.5}},
    ]
    return {
        "metrics.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines),
        "ledger.jsonl": "".join(f"{json.dumps(entry)}\n" for entry in entries),
    }
