"""The verb `score`: the parts of IN that are left to do, and then the manifest of OUT.

The rows of a part never pass through Ray: its worker reads them, and writes its shard, which shows
only when it is whole.
"""

import dataclasses
import datetime
import functools
import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster import __version__
from cluster.errors import UserError
from cluster.runs.progress import Progress
from trainers.corpora.reading.sources import LISTING_THREADS
from trainers.scoring.batch.job import (
    ERRORS,
    MANIFEST,
    MARKERS,
    PLAN,
    UNREADABLE,
    ScoreJob,
    ScorePlan,
    alone,
    manifest_of,
    plan_of,
    shard_name,
)
from trainers.scoring.batch.part import UNFINISHED, marker, score_part
from trainers.scoring.workers import PartsDone, Room, score_parts

SHOWN_REASONS = 5


def run(plan: ScorePlan, room: Room, progress: Progress) -> dict[str, Any]:
    """Scores the parts that have no marker, and returns the manifest."""
    job, parts = plan.job, plan.parts
    with alone(job.out):
        plan_of(job.out, plan.identity)  # another's, if that was written meanwhile
        finished = manifest_of(job.out)
        if finished is not None:  # by the same command, while Ray was started here
            return finished
        job.out.delete(UNFINISHED)  # of a run that was killed
        known = _markers(job)
        left = {n: dataclasses.asdict(part) for n, part in enumerate(parts) if n not in known}
        done = PartsDone(progress, known, len(parts))
        if known:
            progress.line(f"goes on after {len(known)} of {len(parts)} parts")
        if left:
            work = functools.partial(score_part, job)
            score_parts(job.model, work, left, room, done)
        try:
            manifest = _manifest(job, done.outcomes)
        except UserError:
            for name in (PLAN, MARKERS, ERRORS, UNFINISHED):  # so that OUT takes another command
                job.out.delete(name)
            raise
        _refuse_missing(job, manifest)
        job.out.write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        for folder in (MARKERS, UNFINISHED):
            job.out.delete(folder)
    return manifest


def _markers(job: ScoreJob) -> dict[int, dict[str, Any]]:
    """What became of the parts that are done, by number."""
    names = [name.removesuffix(".json") for name in job.out.files(MARKERS)]
    numbers = [int(name.removeprefix("part-")) for name in names]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        outcomes = pool.map(lambda name: json.loads(job.out.read(marker(name))), names)
        return dict(zip(numbers, outcomes, strict=True))


def _manifest(job: ScoreJob, outcomes: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Of the whole output. Raises UserError where no row could be scored."""
    failures: Counter[str] = Counter()
    first: dict[str, str] = {}
    for _, outcome in sorted(outcomes.items()):
        failures.update(outcome["failures"])
        first = {**outcome["first"], **first}
    rows = sum(outcome["rows"] for outcome in outcomes.values())
    if not rows:
        told = "; ".join(first.values())
        raise UserError(f"IN: no row could be scored: {told}" if told else "IN: no rows")
    return {
        "model": job.model.id,
        "rows": rows,
        "failures": dict(failures.most_common()),
        "first_failures": first,
        "shards": {
            shard_name(number, job.format): outcome["rows"]
            for number, outcome in sorted(outcomes.items())
            if outcome["rows"]
        },
        "raymill": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _refuse_missing(job: ScoreJob, manifest: Mapping[str, Any]) -> None:
    """Raises UserError where shards that were written are not seen from here."""
    shards = manifest["shards"].keys()
    missing = shards - job.out.files("").keys()
    if missing:
        raise UserError(
            f"OUT: {len(missing):,} of {len(shards):,} shards are not in {job.out.root}, such as "
            f"{min(missing)}; workers on other nodes wrote them to their own disks, unless someone "
            "deleted them: name an OUT that every node sees, a shared folder or a URI"
        )


def described(manifest: Mapping[str, Any], out: str) -> list[str]:
    """What became of the rows, in lines. Pure."""
    lines = [f"{manifest['rows']:,} rows scored by {manifest['model']}, in {out}"]
    first, failures = manifest["first_failures"], {**manifest["failures"]}
    cut = failures.pop(UNREADABLE, 0)
    if cut:
        lines.append(
            f"{cut:,} x a part of IN could not be read to its end, and what follows there is not "
            f"scored; first {first[UNREADABLE]}"
        )
    if failures:
        aside = sum(failures.values())
        lines.append(f"{aside:,} rows could not be scored, and are in {out}/_errors:")
        for reason, count in [*failures.items()][:SHOWN_REASONS]:
            lines.append(f"  {count:,} x {reason}, first {first[reason]}")
    return lines
