"""One step of a stage on the cluster, by Ray Data: some items a task, as many tasks at once as fit.

A finished item leaves a marker, `WORK/markers/STEP/ITEM.json` with what its function returned,
written after the files that the function wrote. A run that goes on after a kill takes those and
does the others. So a function depends on its item alone, and returns JSON.
"""

import itertools
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster.errors import InfrastructureError, RaymillError, of_storage
from cluster.pipeline import StageJob
from cluster.storage import CACHE
from trainers.corpora.steps import processes

if TYPE_CHECKING:
    import ray.data

MARKERS = "markers"
DONE = {
    "clean": "parts cleaned",
    "exact": "parts searched for equal texts",
    "look": "parts rid of repeats",
    "quotes": "parts rid of quotes of evaluation texts",
    "sign": "parts read for near duplicates",
    "match": "parts searched for near duplicates",
    "star": "parts grouped",
    "found": "parts of near duplicates marked",
    "choose": "parts split",
    "tokenizer": "tokenizers trained",
    "pack": "shards packed",
}
"""What people read of a step that has done some of its items."""
TASKS_A_CPU = 4
"""Where there are more items, a task does several: Ray Data takes tens of milliseconds to begin the
next, and an item may take less."""


def start_ahead(job: StageJob, items: int) -> None:
    """Starts the processes for as many items: they import while the driver prepares."""
    processes.start(min(items, _concurrency(job), _cpus(job)))


def each(
    job: StageJob,
    step: str,
    items: Mapping[str, Any],
    function: Callable[[str, Any], Any],
) -> Iterator[tuple[str, Any]]:
    """The name of every item and what `function(name, item)` returned, in any order.

    Raises the UserError that it raises, and InfrastructureError for storage that gives out and for
    workers that die more often than `cluster.max_failures_per_hour`.
    """
    storage, folder = job.storage, f"{job.draft.work}/{MARKERS}/{step}"
    finished = {name.removesuffix(".json") for name in storage.files(folder)} & set(items)
    told = _done(step)
    if finished:
        job.progress.line(f"goes on after {len(finished)} of {len(items)} {told}")
    done = 0
    for name in sorted(finished):
        yield name, json.loads(storage.read(f"{folder}/{name}.json"))
        done += 1
    waiting = {name: item for name, item in items.items() if name not in finished}

    def attempt(name: str, item: Any) -> Any:
        marker = f"{folder}/{name}.json"
        if storage.exists(marker):  # the task died later, at another of its items
            return json.loads(storage.read(marker))
        outcome = function(name, item)
        storage.write(marker, json.dumps(outcome, ensure_ascii=False).encode())
        return outcome

    for name, outcome in _mapped(job, waiting, attempt):
        done += 1
        job.progress.update(done, len(items), told)
        yield name, outcome


def _done(step: str) -> str:
    """In words, what is done with the items of a step; those of `star-0a` are of round 1. Pure."""
    name, _, number = step.partition("-")
    words = DONE.get(name, f"items of {step}")
    return f"{words}, round {int(number[:-1]) + 1}" if number else words


def _mapped(
    job: StageJob, items: Mapping[str, Any], function: Callable[[str, Any], Any]
) -> Iterator[tuple[str, Any]]:
    if not items:
        return
    import ray.exceptions

    from cluster import ray_data

    try:
        with ray_data.at_once():
            for row in _outcomes(job, items, function).iter_rows():
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, RaymillError):
                    raise outcome
                if isinstance(outcome, OSError):
                    raise _of_storage(outcome, job.storage.root)
                yield outcome
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise InfrastructureError(
            "corpora: a worker died more often than cluster.max_failures_per_hour = "
            f"{job.recipe.cluster.max_failures_per_hour}; run again to go on, with less "
            f"corpora.concurrency if memory was short: {error}"
        ) from error


def _outcomes(
    job: StageJob, items: Mapping[str, Any], function: Callable[[str, Any], Any]
) -> "ray.data.Dataset":
    """A row for the outcome of every item."""
    import ray.data

    concurrency = _concurrency(job)
    rows = [
        {"items": pickle.dumps(shared)}
        for shared in _shared_out(list(items.items()), TASKS_A_CPU * concurrency)
    ]

    def attempt(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # Ray Data does not bring an exception back as what it was. So the mistakes that a user can
        # mend travel as rows, and all rows as bytes, which Arrow does not look into.
        for name, item in pickle.loads(row["items"]):
            try:
                yield {"outcome": pickle.dumps((name, function(name, item)))}
            except (RaymillError, OSError) as error:
                yield {"outcome": pickle.dumps(error)}
                return

    return ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
        attempt,
        compute=ray.data.TaskPoolStrategy(concurrency),
        runtime_env=processes.runtime_env() or None,
        max_retries=job.recipe.cluster.max_failures_per_hour,
    )


def _shared_out(items: Sequence[Any], tasks: int) -> list[Sequence[Any]]:
    """The items for each of so many tasks at most: as many for each, or one more for the first.
    Pure."""
    bounds = [-(-len(items) * task // tasks) for task in range(tasks + 1)]
    shares = [items[start:stop] for start, stop in itertools.pairwise(bounds) if stop > start]
    return sorted(shares, key=len, reverse=True)


def _concurrency(job: StageJob) -> int:
    """Most tasks that run at a time."""
    return job.recipe.corpora.concurrency or _cpus(job)


def _cpus(job: StageJob) -> int:
    return max(1, int(job.resources["CPU"]))


def _of_storage(error: OSError, place: str) -> InfrastructureError:
    if isinstance(error, FileNotFoundError) and str(CACHE.expanduser()) in str(error):
        return InfrastructureError(
            "cluster.cache_gb: too little for what tasks read at a time: a file was gone from "
            f"{CACHE} before it was opened; set more, or fewer corpora.concurrency, and run again"
        )
    return of_storage(error, place, "a worker cannot read or write")
