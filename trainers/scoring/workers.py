"""The primitive of scoring: parts through actors of Ray Data that hold a model.

    parts ──from_items──▶ map_batches(Scorer: read, answer, keep what is made of it) ──▶ outcomes

Batch scoring, evaluation, and whatever else wants a model's answers to rows, are made by it: they
differ in what a part is and what becomes of its answers, their `Work`. A part is one item. A worker
or node that is lost costs the parts that it had begun, which others do again.
"""

import dataclasses
import functools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from cluster.errors import RaymillError, UserError
from cluster.ray.resources import concurrent, less, refuse_unless_fits
from cluster.ray.resources import gpus as gpus_together
from cluster.ray.session import nodes
from cluster.runs.progress import Progress, counted, relayed
from trainers.launch.allocation import THREADS
from trainers.launch.failures import cause_of
from trainers.scoring.answers import Forwards

if TYPE_CHECKING:
    import torch

    from trainers.engine.training_config import Training
    from trainers.tasks.predictor import Predictor

TRIES = 4
"""Of a part whose worker dies with it."""

WorkPart = Mapping[str, Any]
"""What a worker does at once, as plain JSON."""
Outcome = dict[str, Any]
"""The same: `rows` that were answered, `failures` by reason, and what else its Work makes."""


class Loadable(Protocol):
    """What a worker answers with, such as a Model (model.py). Picklable."""

    def load(self, device: "torch.device") -> "Predictor": ...


class Work(Protocol):
    """What a worker does with a part. Picklable."""

    def __call__(
        self,
        predictor: "Predictor",
        number: int,
        part: WorkPart,
        progress: Progress,
        forwards: Forwards,
    ) -> Outcome: ...


@dataclasses.dataclass(frozen=True)
class Room:
    """What of a cluster scoring may take."""

    nodes: Sequence[Mapping[str, float]]
    """What each has now, beside what endpoints hold there."""
    resources: Mapping[str, float]
    """That the cluster can grow to."""
    held: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Of these, by endpoints."""
    workers: int | None = None
    """By default as many as there is room for and parts to do."""
    gpus_per_worker: float | None = None
    """By default 1 where there are GPUs."""

    @classmethod
    def as_in_training(cls, settings: "Training", resources: Mapping[str, float]) -> Self:
        """As much of a GPU for a worker as in training. Of a model that took several workers to
        train, no more than these hold one, for memory."""
        workers = None if settings.most_workers == 1 else settings.least_workers
        return cls(nodes(), resources, workers=workers, gpus_per_worker=settings.gpus_per_worker)


@dataclasses.dataclass(frozen=True)
class Workers:
    number: int
    cpus: int
    """Of each: threads of torch."""
    gpus: float
    """Of each; a share where several are on one."""


def allocate(room: Room, parts: int) -> Workers:
    """How many workers so many parts have, and what each has; the CPUs are shared out. Raises
    UserError for what can never fit. Pure."""
    workers, gpus = room.workers, room.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if room.resources.get("GPU") else 0.0
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: expected one or more")
    if not 0 <= gpus <= 1:
        raise UserError(
            f"--gpus-per-worker {gpus:g}: expected 0, 1 or a share of one; a worker computes on "
            "one GPU, so set more --workers"
        )
    least = {"CPU": 1.0, "GPU": gpus}
    refuse_unless_fits("--gpus-per-worker", least, room.resources, "set fewer", room.held)

    def fitting(cpus: int) -> int:
        each = {"CPU": float(cpus), "GPU": gpus}
        return sum(concurrent(each, node, at_most=parts) for node in room.nodes)

    # An autoscaling cluster may have no node with room yet.
    most = fitting(1) or concurrent(least, less(room.resources, room.held), at_most=parts)
    number = min(parts, workers or most)
    together = {"CPU": float(number), "GPU": gpus_together(number, gpus)}
    remedy = "set fewer, or leave it out"
    refuse_unless_fits("--workers", together, room.resources, remedy, room.held)
    threads = [cpus for cpus in range(1, THREADS + 1) if fitting(cpus) >= number]
    return Workers(number, max(threads, default=1), gpus)


def score_parts(
    model: Loadable, work: Work, parts: Mapping[int, WorkPart], room: Room, done: "PartsDone"
) -> None:
    """Does the parts, given by their numbers, and adds their outcomes to those that are `done`."""
    workers = allocate(room, len(parts))
    done.line(_described(workers, len(parts)))
    with relayed(done) as relay:
        for outcome in _outcomes(model, work, parts, workers, relay):
            done.finish(outcome.pop("number"), outcome)


def _described(workers: Workers, parts: int) -> str:
    with_gpu = f" and {workers.gpus:g} GPU" if workers.gpus else ""
    each = f"{counted(workers.cpus, 'CPU')}{with_gpu}"
    return f"{counted(workers.number, 'worker')} x {each}, {counted(parts, 'part')}"


def _outcomes(
    model: Loadable, work: Work, parts: Mapping[int, WorkPart], workers: Workers, progress: Progress
) -> Iterator[Outcome]:
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the run's own lines are shown
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1  # a part that cannot be cut may take hours
    items = [{"number": number, "part": json.dumps(part)} for number, part in parts.items()]
    made = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Scorer,
        fn_constructor_args=(model, work, workers.cpus, workers.gpus, progress),
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
        for row in made.iter_rows():
            yield json.loads(row["outcome"])
    except ray.exceptions.RayError as error:
        cause = cause_of(error, for_memory="set fewer --workers")
        raise cause.error if isinstance(cause, Enclosed) else cause from error


class Enclosed(Exception):
    """An error of ours on its way through Ray Data, which adds a note on its own retries to the
    text of what `map_batches` raises (`_annotate_exception_with_retry_context`)."""

    def __init__(self, error: RaymillError, *notes: str):
        super().__init__(error, *notes)
        self.error = error


class Scorer:
    """What `map_batches` makes an actor of. The model comes with the first part: Ray Data tells of
    what is wrong with a call, not of what is wrong with making an actor."""

    def __init__(self, model: Loadable, work: Work, threads: int, gpus: float, progress: Progress):
        self._model, self._work, self._progress = model, work, progress
        self._threads, self._gpus = threads, gpus
        self._forwards = threading.Lock()
        """Two parts are under way, so that one is read and kept while the other is answered."""

    @functools.cached_property
    def _predictor(self) -> "Predictor":
        import torch

        from trainers.models.devices import own_device

        torch.set_num_threads(self._threads)
        return self._model.load(own_device(self._gpus))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        try:
            return self._outcomes(batch)
        except RaymillError as error:
            raise Enclosed(error) from error

    def _outcomes(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        with self._forwards:
            predictor = self._predictor
        made = []
        for number, part in zip(batch["number"], batch["part"], strict=True):
            given = int(number), json.loads(part), self._progress, self._forwards
            self._progress.update(0, 0, "rows", part=int(number))  # time left is counted from here
            outcome = self._work(predictor, *given)
            made.append(json.dumps({"number": int(number), **outcome}))
        return {"outcome": made}


def rows_of(outcome: Outcome) -> int:
    """Rows of a part, with those that could not be answered."""
    failures: Mapping[str, int] = outcome["failures"]
    return int(outcome["rows"]) + sum(failures.values())


class PartsDone:
    """What was done so far, by part; a Progress of the workers, which tell of rows."""

    def __init__(
        self,
        progress: Progress,
        done: Mapping[int, Outcome],
        parts: int,
        keep: Callable[[int, Outcome], None] | None = None,
    ):
        """`keep` is called with each further outcome, where workers do not keep theirs."""
        self._progress, self._parts, self._keep = progress, parts, keep
        self.outcomes = dict(done)
        self._rows: Counter[int] = Counter()
        """Of this run's parts."""
        self._shares: dict[int, float] = {}
        """How much is done of each part that was begun, where that is known."""
        self._rows_before = sum(map(rows_of, done.values()))
        """Of parts that an earlier run has done."""
        self._began = time.monotonic()
        self._lock = threading.Lock()
        """Workers' rows come by another thread than their outcomes."""

    def line(self, text: str) -> None:
        self._progress.line(text)

    def update(self, done: float, total: float, unit: str, **metrics: float | int | str) -> None:
        """So many rows are done of the part that is among the metrics, of about as many as the
        total, or of a number that is not known, which is 0."""
        number = int(metrics["part"])
        with self._lock:
            if not self._rows:  # the first worker has its model
                self._began = time.monotonic()
            self._rows[number] = int(done)
            self._shares[number] = done / total if total else 0.0
            self._show()

    def finish(self, number: int, outcome: Outcome) -> None:
        if self._keep is not None:
            self._keep(number, outcome)
        with self._lock:
            self.outcomes[number] = outcome
            self._rows[number] = rows_of(outcome)
            self._show()

    def _show(self) -> None:
        whole, rows = len(self.outcomes), self._rows.total()
        begun = sum(share for part, share in self._shares.items() if part not in self.outcomes)
        self._progress.update(
            round(100 * (whole + begun) / self._parts, 1),
            100.0,
            "%",
            parts=f"{whole:,} of {self._parts:,}",
            rows=self._rows_before + rows,
            rows_per_second=rows / max(1e-3, time.monotonic() - self._began),
        )
