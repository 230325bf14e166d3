"""One step of a stage on the cluster, by Ray tasks: an item a task, as many at once as fit.

A finished item leaves a marker, `WORK/markers/STEP/ITEM.json` with what its function returned,
written after the files that the function wrote. A run that goes on after a kill takes those and
does the others. So a function depends on its item alone, and returns JSON.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.errors import InfrastructureError, RaymillError, storage_failure
from cluster.runs.pipeline import StageJob
from cluster.store.storage import CACHE

MARKERS = "markers"


def each(
    job: StageJob,
    step: str,
    items: Mapping[str, Any],
    function: Callable[[str, Any], Any],
    done: str,
) -> Iterator[tuple[str, Any]]:
    """The name of every item and what `function(name, item)` returned, in any order. `done` says
    for people what is done with an item, as in `parts cleaned`.

    Raises the UserError that it raises, and InfrastructureError for storage that gives out and for
    workers that die more often than `cluster.max_failures_per_hour`.
    """
    storage, folder = job.storage, f"{job.draft.work}/{MARKERS}/{step}"
    finished = {name.removesuffix(".json") for name in storage.files(folder)} & set(items)
    if finished:
        job.progress.line(f"goes on after {len(finished)} of {len(items)} {done}")
    count = 0
    for name in sorted(finished):
        yield name, json.loads(storage.read(f"{folder}/{name}.json"))
        count += 1
    waiting = {name: item for name, item in items.items() if name not in finished}

    def attempt(name: str, item: Any) -> Any:
        outcome = function(name, item)
        storage.write(f"{folder}/{name}.json", json.dumps(outcome, ensure_ascii=False).encode())
        return outcome

    for name, outcome in _mapped(job, waiting, attempt):
        count += 1
        job.progress.update(count, len(items), done)
        yield name, outcome


def _mapped(
    job: StageJob, items: Mapping[str, Any], function: Callable[[str, Any], Any]
) -> Iterator[tuple[str, Any]]:
    import ray

    retries = job.recipe.cluster.max_failures_per_hour
    task: Any = ray.remote(num_cpus=1, max_retries=retries)(function)
    at_once = job.recipe.corpora.concurrency or max(1, int(job.resources["CPU"]))
    waiting, running = iter(items.items()), dict[Any, str]()
    while True:
        for name, item in itertools.islice(waiting, at_once - len(running)):
            running[task.remote(name, item)] = name
        if not running:
            return
        ended = ray.wait(list(running))[0][0]
        yield running.pop(ended), _result(job, ended)


def _result(job: StageJob, ended: Any) -> Any:
    import ray.exceptions

    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OSError):
            raise _storage_failure(error.cause, job.storage.root) from error
        if isinstance(error.cause, RaymillError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise InfrastructureError(
            "corpora: a worker died more often than cluster.max_failures_per_hour = "
            f"{job.recipe.cluster.max_failures_per_hour}; run again to go on, with less "
            f"corpora.concurrency if memory was short: {error}"
        ) from error


def _storage_failure(error: OSError, place: str) -> InfrastructureError:
    if isinstance(error, FileNotFoundError) and str(CACHE.expanduser()) in str(error):
        return InfrastructureError(
            "cluster.cache_gb: too little for what tasks read at a time: a file was gone from "
            f"{CACHE} before it was opened; set more, or fewer corpora.concurrency, and run again"
        )
    return storage_failure(error, place, "a worker cannot read or write")
