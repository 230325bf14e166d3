"""The one loop from rows to answers, inside a worker: for batch scoring and evaluation alike.

Rows are checked and encoded a buffer at a time, in a thread, while the model answers the buffer
before; forwards take inputs of similar length. Answers come in the order of the rows.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.text_batches import batched

if TYPE_CHECKING:
    from trainers.tasks.predictor import Predictor

BUFFER_CHARACTERS = 512 << 10
"""What is sorted by length together, up to a Predictor's `buffer_rows`. Four are in memory, for a
worker has two parts under way and reads each a buffer ahead: one of long texts, in which entities
are looked for, takes 180 MB."""

NOT_READ = "not what the model reads"
"""The reason of an input that is not of the model's type."""

Item = TypeVar("Item")
Row = Mapping[str, Any]
Forwards = contextlib.AbstractContextManager[Any]
"""Held while the model answers, since a worker has two parts under way."""


class Candidate(NamedTuple):
    """A row that is to be answered."""

    where: str
    """For people: `file:line`."""
    row: Row
    inputs: Row | Problem
    """What the model reads of it, by role; or why there is nothing to read."""
    share: float | None = None
    """How much of its part is read with it, where that is known."""


class Answered(NamedTuple):
    rows: list[Row]
    outputs: Sequence[Any]
    """An output for each row."""
    failures: list[Candidate]
    """Rows that could not be answered; each one's `inputs` are the Problem."""
    share: float | None
    """Of the last candidate: how much of the part is done."""


@dataclasses.dataclass(frozen=True)
class _Buffer:
    rows: list[Row]
    encoded: Sequence[Any]
    failures: list[Candidate]
    share: float | None


def answered(
    candidates: Iterable[Candidate], predictor: "Predictor", forwards: Forwards
) -> Iterator[Answered]:
    for buffer in read_ahead(_buffers(candidates, predictor)):
        with forwards:
            outputs = predictor.forward(buffer.encoded)
        yield Answered(buffer.rows, outputs, buffer.failures, buffer.share)


def _buffers(candidates: Iterable[Candidate], predictor: "Predictor") -> Iterator[_Buffer]:
    """Rows that are ready for the model."""
    check = TypeAdapter(predictor.Input)
    least = BUFFER_CHARACTERS // predictor.buffer_rows
    for some in batched(candidates, BUFFER_CHARACTERS, lambda one: max(characters(one.row), least)):
        rows, inputs, failures = [], [], []
        for candidate in some:
            found = _input(candidate, predictor, check)
            if isinstance(found, Problem):
                failures.append(candidate._replace(inputs=found))
            else:
                rows.append(candidate.row)
                inputs.append(found)
        yield _Buffer(rows, predictor.encode(inputs), failures, some[-1].share)


def characters(value: Any) -> int:
    """Of a row, or of a value in it, however deep: of texts and bytes as many as they have, and of
    whatever else one."""
    match value:
        case str() | bytes():
            return len(value)
        case Mapping():
            return sum(map(characters, value.values()))
        case list() | tuple():
            return sum(map(characters, value))
        case _:
            return 1


def _input(candidate: Candidate, predictor: "Predictor", check: TypeAdapter[Any]) -> Any:
    """What the model reads of a row; or a Problem."""
    if isinstance(candidate.inputs, Problem):
        return candidate.inputs
    try:
        value = check.validate_python(predictor.input_of(candidate.inputs))
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        return Problem(NOT_READ, told)
    return predictor.problem_of(value) or value


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same, each made in a thread while the one before is in use."""
    iterator, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1, "read-ahead") as pool:
        following = pool.submit(next, iterator, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]
