"""One worker of `raymill score`: an actor of Ray Data that holds the model and does part by part.

A part is read, checked and encoded a buffer of rows at a time, in a thread, while the model answers
the buffer before; forwards take inputs of similar length. Its rows come out in order, in one shard.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cluster.errors import UserError, as_storage_failure
from cluster.runs.progress import Progress
from trainers.corpora.reading.config import TEXT
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.readers import Document
from trainers.corpora.reading.sources import Part
from trainers.corpora.text_batches import batched
from trainers.scoring.columns import Row, prediction_columns
from trainers.scoring.job import (
    ERRORS,
    MARKERS,
    Model,
    ScoreJob,
    characters,
    part_name,
    read_rows,
)
from trainers.scoring.shards import Aside, Prediction, shard

if TYPE_CHECKING:
    import torch

    from trainers.tasks.predictor import Predictor

BUFFER_ROWS, BUFFER_CHARACTERS = 2_048, 4 << 20
"""What is sorted by length together, and in memory about four times."""
UNFINISHED = ".unfinished"
"""Folder of OUT for files that are not whole yet."""

Item = TypeVar("Item")
Read = tuple[Document, Row]


def marker(name: str) -> str:
    return f"{MARKERS}/{name}.json"


class Scorer:
    """What `map_batches` makes an actor of. The model comes with the first part: Ray Data tells of
    what is wrong with a call, not of what is wrong with making an actor."""

    def __init__(self, job: ScoreJob, threads: int, gpus: float, progress: Progress):
        self._job, self._threads, self._gpus, self._progress = job, threads, gpus, progress
        self._forwards = threading.Lock()
        """Two parts are under way, so that one is read and written while the other is answered."""

    @functools.cached_property
    def _predictor(self) -> "Predictor":
        import torch

        from trainers.models.devices import own_device

        torch.set_num_threads(self._threads)
        return loaded(self._job.model, own_device(self._gpus))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        with self._forwards:
            predictor = self._predictor
        outcomes = []
        for number, part in zip(batch["number"], batch["part"], strict=True):
            found = Part(**json.loads(part))
            outcome = score_part(
                self._job, predictor, int(number), found, self._progress, self._forwards
            )
            outcomes.append(json.dumps(outcome, ensure_ascii=False))
        return {"outcome": outcomes}


def loaded(model: Model, device: "torch.device") -> "Predictor":
    """Raises UserError where its files are not as they were, or are no model."""
    from trainers.tasks.predictor import load

    folder = model.storage.local(model.place)
    for name, known in model.hashes.items():
        if _sha256(folder / name) != known:
            raise UserError(
                f"{model.id} is damaged: {folder / name} has other bytes than it was made with; "
                "copy it again, or delete that folder and run its recipe"
            )
    try:
        return load(folder, device)
    except (OSError, ValueError, LookupError) as error:  # a folder by hand may lack anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"{model.id} cannot be loaded: {type(error).__name__}: {reason}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def score_part(
    job: ScoreJob,
    predictor: "Predictor",
    number: int,
    part: Part,
    progress: Progress,
    forwards: contextlib.AbstractContextManager[Any],
) -> dict[str, Any]:
    """Writes the files of a part, and then its marker, whose content is returned. `forwards` is
    held while the model answers."""
    name, count = part_name(number), 0
    with (
        as_storage_failure(job.out.root, "a worker cannot write its rows"),
        job.out.writing("", UNFINISHED) as folder,
        contextlib.closing(shard(folder, name, job.format, job.schema, job.prefix)) as scored,
        contextlib.closing(Aside(folder / ERRORS / f"{name}.jsonl")) as aside,
    ):
        for buffer in read_ahead(buffers(job, predictor, part)):
            with forwards:
                outputs = predictor.forward(buffer.encoded)
            scored.write(buffer.rows, [Prediction(one, predictor.score(one)) for one in outputs])
            for failure in buffer.failures:
                aside.write(*failure)
            count += len(outputs)
            progress.update(count + aside.reasons.total(), 0, "rows", part=number)
    outcome = {"rows": count, "failures": dict(aside.reasons), "first": aside.first}
    with as_storage_failure(job.out.root, "a worker cannot write a marker"):
        job.out.write(marker(name), json.dumps(outcome, ensure_ascii=False).encode())
    return {"number": number, **outcome}


@dataclasses.dataclass(frozen=True)
class Buffer:
    rows: list[Row]
    encoded: Sequence[Any]
    failures: list[tuple[str, Problem, Row]]
    """Where they stand, why, and what they have."""


def buffers(job: ScoreJob, predictor: "Predictor", part: Part) -> Iterator[Buffer]:
    """The rows of a part, ready for the model."""
    added = prediction_columns(predictor.Output, job.prefix)
    check = TypeAdapter(predictor.Input)
    for some in batched(read_rows(job.source, part), BUFFER_CHARACTERS, _size):
        rows, inputs, failures = [], [], []
        for document, row in some:
            found = _input(document, row, added, predictor, check)
            if isinstance(found, Problem):
                failures.append((document.where, found, row))
            else:
                rows.append(row)
                inputs.append(found)
        yield Buffer(rows, predictor.encode(inputs), failures)


def _size(read: Read) -> int:
    """So that a buffer has neither too many rows nor too many characters."""
    return max(characters(read), BUFFER_CHARACTERS // BUFFER_ROWS)


def _input(
    document: Document,
    row: Row,
    added: frozenset[str],
    predictor: "Predictor",
    check: TypeAdapter[Any],
) -> Any:
    """What the model reads of a row; or a Problem."""
    if document.problem is not None:
        return document.problem
    if not added.isdisjoint(row):
        return Problem("a column of score's own name", min(added & row.keys()))
    try:
        return check.validate_python(predictor.input_of({TEXT: document.text, **document.values}))
    except ValidationError as error:
        return Problem("not what the model reads", error.errors()[0]["msg"])


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same, each made in a thread while the one before is in use."""
    iterator, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1, "read-ahead") as pool:
        following = pool.submit(next, iterator, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]
