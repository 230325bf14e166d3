"""A trained model on rows of examples: records of what it said of each, and figures from them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.lazy_import import lazy_import
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from trainers.corpora.examples.stage import BATCH_ROWS, batches
from trainers.launch.failures import results
from trainers.scoring.records import Record, recorded
from trainers.tasks.spec import TaskSection

Records = list[Record]


def score_all(job: StageJob, settings: TaskSection, places: list[str]) -> list[Records]:
    """Records of the test split by the models in folders of the workspace. By Ray tasks, with the
    CPUs and the GPU of a worker that trains: the driver needs no torch. What took several workers
    to train is scored one by one, for memory."""
    import ray

    gpus = settings.gpus_per_worker
    task: Any = ray.remote(num_cpus=settings.worker_cpus, num_gpus=gpus)(score)
    at_once = len(places) if settings.most_workers == 1 else 1
    scored: list[Records] = []
    while len(scored) < len(places):
        chosen = places[len(scored) :][:at_once]
        examples, threads = job.parents["examples"], settings.worker_cpus
        scored += results(
            [task.remote(job.storage, place, examples, threads, gpus) for place in chosen]
        )
    return scored


def score(
    storage: Storage,
    place: str,
    examples: Artifact,
    threads: float | None = None,
    gpus: float = 0.0,
) -> Records:
    """Records of the test split by the model in a folder of the workspace, on so many threads or as
    many as there are cores, and on the GPU of which its process holds so much. Imports torch."""
    import torch

    from trainers.models.devices import own_device
    from trainers.tasks.predictor import load

    if threads is not None:
        torch.set_num_threads(max(1, int(threads)))
    return records_of(load(storage.local(place), own_device(gpus)), batches(examples, "test"))


def score_rows(storage: Storage, place: str, rows: Sequence[Mapping[str, Any]]) -> Records:
    """Records of rows that are like those of examples. Imports torch."""
    from trainers.tasks.predictor import load

    starts = range(0, len(rows), BATCH_ROWS)
    some = (rows[start : start + BATCH_ROWS] for start in starts)
    return records_of(load(storage.local(place)), some)


def records_of(predictor: Any, batches: Iterable[Sequence[Mapping[str, Any]]]) -> Records:
    """Records of batches of rows, in their order."""
    records: Records = []
    for rows in batches:
        records += recorded(rows, predictor.records(rows), first=len(records))
    return records


def figures(task: TaskSection | type[TaskSection], records: Sequence[Record]) -> dict[str, Any]:
    """Of a task's records, by the task's own function."""
    computed: dict[str, Any] = lazy_import(task.figures)(records)
    return computed
