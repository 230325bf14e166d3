"""Records of what a model says of rows with labels, by the primitive that scores (workers.py).

Rows go to the workers that hold the model, and their records come back: both are in memory.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster.errors import UserError
from cluster.runs.progress import Progress
from cluster.store.artifacts import Draft
from trainers.corpora.reading.formats.rows import Problem
from trainers.scoring.answers import NOT_READ, Candidate, Forwards, Row, answered
from trainers.scoring.evaluation.records import Record, recorded
from trainers.scoring.model import Model
from trainers.scoring.workers import (
    Loadable,
    Outcome,
    PartsDone,
    Room,
    Work,
    WorkPart,
    score_parts,
)

if TYPE_CHECKING:
    from trainers.tasks.predictor import Predictor

PART_ROWS = 4_096

Records = list[Record]


class Scored(NamedTuple):
    records: Records
    """In the order of the rows."""
    left_out: dict[str, int]
    """Rows that the model cannot be asked, by reason."""


def records_of(
    model: Model,
    rows: Sequence[Row],
    room: Room,
    progress: Progress,
    draft: Draft | None = None,
    kept: str = "records",
) -> Scored:
    """Of rows like those of examples. Records of a part are kept in the work of the `draft`, if
    there is one, in the folder `kept`, from which a killed run goes on. Raises UserError where the
    model can be asked none of the rows."""
    size = max(1, PART_ROWS // model.section.row_cost)
    parts = {
        number: {"first": first, "rows": rows[first : first + size]}
        for number, first in enumerate(range(0, len(rows), size))
    }
    outcomes = outcomes_of(model, record_part, parts, room, progress, draft, kept)
    records = [record for number in parts for record in outcomes[number]["records"]]
    left_out = sum((Counter(each["failures"]) for each in outcomes.values()), Counter[str]())
    told = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items())
    if rows and not records:
        raise UserError(f"{model.id} can be asked none of the {len(rows):,} rows: {told}")
    if left_out:
        progress.line(f"warning: rows that are not evaluated: {told}")
    return Scored(records, dict(left_out))


def outcomes_of(
    model: Loadable,
    work: Work,
    parts: Mapping[int, WorkPart],
    room: Room,
    progress: Progress,
    draft: Draft | None,
    kept: str,
) -> dict[int, Outcome]:
    """What work makes of parts, by their numbers. Each is kept in the work of the `draft`, if there
    is one, in the folder `kept`, from which a killed run goes on."""
    if draft is None:
        done = PartsDone(progress, {}, len(parts))
    else:
        outcomes = KeptOutcomes(draft, kept)
        done = PartsDone(progress, outcomes.read(), len(parts), outcomes.add)
    left = {number: part for number, part in parts.items() if number not in done.outcomes}
    if len(left) < len(parts):
        progress.line(f"goes on after {len(parts) - len(left)} of {len(parts)} parts")
    if left:
        score_parts(model, work, left, room, done)
    return done.outcomes


class KeptOutcomes:
    """By the numbers of their parts."""

    def __init__(self, draft: Draft, name: str):
        self._storage, self._folder = draft.storage, f"{draft.work}/{name}"

    def read(self) -> dict[int, Outcome]:
        outcomes = {}
        for name in self._storage.files(self._folder):
            text = self._storage.read(f"{self._folder}/{name}")
            outcomes[int(name.removesuffix(".json"))] = json.loads(text)
        return outcomes

    def add(self, number: int, outcome: Outcome) -> None:
        text = json.dumps(outcome)
        self._storage.write(f"{self._folder}/{number}.json", text.encode())


def record_part(
    predictor: "Predictor",
    number: int,
    part: Mapping[str, Any],
    progress: Progress,
    forwards: Forwards,
) -> Outcome:
    """Rows that the model cannot be asked are counted by reason. Raises UserError for one that is
    not of its type: figures of the others would not be those of the rows."""
    records: Records = []
    left_out: Counter[str] = Counter()
    candidates = (Candidate(row["id"], row, row) for row in part["rows"])
    for rows, outputs, failures, _ in answered(candidates, predictor, forwards):
        for where, _, problem, _ in failures:
            assert isinstance(problem, Problem), "that is why it has no answer"
            if problem.reason == NOT_READ:
                raise UserError(f"row {where} cannot be evaluated: {problem}")
            left_out[problem.reason] += 1
        with forwards:  # some records need the model once more
            made = predictor.records(rows, outputs)
        records += recorded(rows, made, first=part["first"] + len(records))
        done = len(records) + left_out.total()
        progress.update(done, len(part["rows"]), "rows", part=number)
    return {"rows": len(records), "failures": dict(left_out), "records": records}
