"""The verb `score`: the parts of IN through workers that hold the model, by Ray Data.

    parts ──from_items──▶ map_batches(Scorer: read, answer, write, leave a marker) ──▶ outcomes

A part is one item, and its rows never pass through Ray. A worker or node that is lost costs the
parts that it had begun, which others do again: a shard shows only when it is whole.
"""

import dataclasses
import datetime
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster import __version__
from cluster.errors import UserError
from cluster.ray.resources import concurrent, less, refuse_unless_fits
from cluster.ray.resources import gpus as gpus_together
from cluster.runs.progress import Progress, relayed
from trainers.corpora.reading.sources import LISTING_THREADS
from trainers.launch.allocation import THREADS
from trainers.launch.failures import cause_of
from trainers.scoring.job import (
    MANIFEST,
    MARKERS,
    UNREADABLE,
    Planned,
    ScoreJob,
    alone,
    plan_of,
    shard_name,
)
from trainers.scoring.scorer import UNFINISHED, Scorer, marker

TRIES = 4
"""Of a part whose worker dies with it."""
SHOWN_REASONS = 5


@dataclasses.dataclass(frozen=True)
class Workers:
    number: int
    cpus: int
    """Of each: threads of torch."""
    gpus: float
    """Of each; a share where several are on one."""

    @property
    def resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus), "GPU": self.gpus}


def allocate(
    nodes: Sequence[Mapping[str, float]],
    resources: Mapping[str, float],
    held: Mapping[str, float],
    parts: int,
    workers: int | None,
    gpus: float | None,
) -> Workers:
    """How many workers there are, and what each has: as many as there is room for and parts to do,
    by default, with a GPU each where there are some; and the CPUs shared out. `resources` are those
    that the cluster can grow to, of which endpoints have `held` some. Raises UserError for what can
    never fit. Pure."""
    if gpus is None:
        gpus = 1.0 if resources.get("GPU") else 0.0
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: expected one or more")
    if not 0 <= gpus <= 1:
        raise UserError(
            f"--gpus-per-worker {gpus:g}: expected 0, 1 or a share of one; a worker computes on "
            "one GPU, so set more --workers"
        )
    least = {"CPU": 1.0, "GPU": gpus}
    refuse_unless_fits("--gpus-per-worker", least, resources, "set fewer", held)

    def room(cpus: int) -> int:
        each = {"CPU": float(cpus), "GPU": gpus}
        return sum(concurrent(each, node, at_most=parts) for node in nodes)

    # An autoscaling cluster may have no node with room yet.
    most = room(1) or concurrent(least, less(resources, held), at_most=parts)
    number = min(parts, workers or most)
    together = {"CPU": float(number), "GPU": gpus_together(number, gpus)}
    refuse_unless_fits("--workers", together, resources, "set fewer, or leave it out", held)
    threads = [cpus for cpus in range(1, THREADS + 1) if room(cpus) >= number]
    return Workers(number, max(threads, default=1), gpus)


def run(
    planned: Planned,
    nodes: Sequence[Mapping[str, float]],
    resources: Mapping[str, float],
    held: Mapping[str, float],
    workers: int | None,
    gpus: float | None,
    progress: Progress,
) -> dict[str, Any]:
    """Scores the parts that have no marker, and returns the manifest."""
    job, parts = planned.job, planned.parts
    with alone(job.out):
        plan_of(job.out, planned.identity)  # another's, if that was written meanwhile
        job.out.delete(UNFINISHED)  # of a run that was killed
        done = _markers(job)
        left = [number for number in range(len(parts)) if number not in done]
        tally = Tally(progress, done, len(parts))
        if done:
            progress.line(f"goes on after {len(done)} of {len(parts)} parts")
        if left:
            chosen = allocate(nodes, resources, held, len(left), workers, gpus)
            on = f" and {chosen.gpus:g} GPUs" if chosen.gpus else ""
            progress.line(f"{chosen.number} workers x {chosen.cpus} CPUs{on}, {len(left)} parts")
            with relayed(tally) as relay:
                for outcome in _outcomes(planned, left, chosen, relay):
                    tally.finish(outcome)
        manifest = _manifest(job, tally)
        _refuse_missing(job, manifest)
        job.out.write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        for folder in (MARKERS, UNFINISHED):
            job.out.delete(folder)
    return manifest


def _outcomes(
    planned: Planned, left: Sequence[int], workers: Workers, progress: Progress
) -> Iterator[dict[str, Any]]:
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the run's own lines are shown
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1  # a part that cannot be cut may take hours
    items = [
        {"number": number, "part": json.dumps(dataclasses.asdict(planned.parts[number]))}
        for number in left
    ]
    outcomes = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Scorer,
        fn_constructor_args=(planned.job, workers.cpus, workers.gpus, progress),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=workers.number,
            max_tasks_in_flight_per_actor=2,
            max_concurrent_calls_per_actor=2,
            enable_true_multi_threading=True,
        ),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
        max_task_retries=TRIES - 1,
    )
    try:
        for row in outcomes.iter_rows():
            yield json.loads(row["outcome"])
    except ray.exceptions.RayError as error:
        raise cause_of(error) from error


class Tally:
    """What was done so far, by part; a Progress of the workers, which tell of rows."""

    def __init__(self, progress: Progress, done: Mapping[int, Mapping[str, Any]], parts: int):
        self._progress, self._parts = progress, parts
        self.outcomes = dict(done)
        self._rows: Counter[int] = Counter()
        """Of this run's parts."""
        self._began = time.monotonic()
        self._lock = threading.Lock()
        """Workers' rows come by another thread than their outcomes."""

    def line(self, text: str) -> None:
        self._progress.line(text)

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        """So many rows are done of the part that is among the metrics."""
        with self._lock:
            self._rows[int(metrics["part"])] = int(done)
            self._show()

    def finish(self, outcome: dict[str, Any]) -> None:
        number = outcome.pop("number")
        with self._lock:
            self.outcomes[number] = outcome
            self._rows[number] = outcome["rows"] + sum(outcome["failures"].values())
            self._show()

    def _show(self) -> None:
        rows = self._rows.total()
        self._progress.update(
            len(self.outcomes),
            self._parts,
            "parts",
            rows=rows,
            rows_per_second=rows / max(1e-3, time.monotonic() - self._began),
        )


def _markers(job: ScoreJob) -> dict[int, dict[str, Any]]:
    """What became of the parts that are done, by number."""
    names = [name.removesuffix(".json") for name in job.out.files(MARKERS)]
    numbers = [int(name.removeprefix("part-")) for name in names]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        outcomes = pool.map(lambda name: json.loads(job.out.read(marker(name))), names)
        return dict(zip(numbers, outcomes, strict=True))


def _manifest(job: ScoreJob, tally: Tally) -> dict[str, Any]:
    """Of the whole output. Raises UserError where no row could be scored."""
    failures: Counter[str] = Counter()
    first: dict[str, str] = {}
    for _, outcome in sorted(tally.outcomes.items()):
        failures.update(outcome["failures"])
        first = {**outcome["first"], **first}
    rows = sum(outcome["rows"] for outcome in tally.outcomes.values())
    if not rows:
        reasons = "; ".join(first.values())
        raise UserError(f"IN: no row could be scored: {reasons}" if reasons else "IN: no rows")
    return {
        "model": job.model.id,
        "rows": rows,
        "failures": dict(failures.most_common()),
        "first_failures": first,
        "shards": {
            shard_name(number, job.format): outcome["rows"]
            for number, outcome in sorted(tally.outcomes.items())
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
