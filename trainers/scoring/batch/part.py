"""A part of `raymill score`, from its rows to its shard: in the order of the rows."""

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cluster.errors import as_storage_failure
from cluster.runs.progress import Progress
from trainers.corpora.reading.config import TEXT
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.sources import Part
from trainers.scoring.answers import Candidate, Forwards, Row, answered
from trainers.scoring.batch.columns import prediction_columns
from trainers.scoring.batch.job import ERRORS, MARKERS, ScoreJob, makes_text, part_name, read_rows
from trainers.scoring.batch.shards import Aside, ScoredOutput, shard

if TYPE_CHECKING:
    from trainers.tasks.predictor import Predictor

UNFINISHED = ".unfinished"
"""Folder of OUT for files that are not whole yet."""


def marker(name: str) -> str:
    return f"{MARKERS}/{name}.json"


def score_part(
    job: ScoreJob,
    predictor: "Predictor",
    number: int,
    part: Row,
    progress: Progress,
    forwards: Forwards,
) -> dict[str, Any]:
    """Writes the files of a part, and then its marker, whose content is returned."""
    name, count = part_name(number), 0
    candidates = _candidates(job, predictor, Part(**part))
    with (
        as_storage_failure(job.out.root, "a worker cannot write its rows"),
        job.out.writing("", UNFINISHED) as folder,
        contextlib.closing(shard(folder, name, job.format, job.schema, job.prefix)) as scored,
        contextlib.closing(Aside(folder / ERRORS / f"{name}.jsonl")) as aside,
    ):
        for rows, outputs, failures, share in answered(candidates, predictor, forwards):
            scored.write(rows, [ScoredOutput(one, predictor.score(one)) for one in outputs])
            for failure in failures:
                aside.write(failure)
            count += len(outputs)
            done = count + aside.reasons.total()
            progress.update(done, done / share if share else 0, "rows", part=number)
    outcome = {"rows": count, "failures": dict(aside.reasons), "first": aside.first}
    with as_storage_failure(job.out.root, "a worker cannot write a marker"):
        job.out.write(marker(name), json.dumps(outcome, ensure_ascii=False).encode())
    return outcome


def _candidates(job: ScoreJob, predictor: "Predictor", part: Part) -> Iterator[Candidate]:
    added = prediction_columns(predictor.Output, job.prefix)
    task = job.model.section
    has_made_text = makes_text(task, job.source)
    for document, row in read_rows(job.source, part, has_made_text, task.optional_inputs):
        inputs: Row | Problem = {TEXT: document.text, **document.values}
        if document.problem is not None:
            inputs = document.problem
        elif not added.isdisjoint(row):
            inputs = Problem("a column of score's own name", min(added & row.keys()))
        yield Candidate(document.where, row, inputs, document.share)
