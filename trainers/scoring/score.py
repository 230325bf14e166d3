"""Figures of a classifier on the untouched test split."""

from typing import Any

import numpy as np

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from trainers.corpora.examples.stage import read_split
from trainers.launch import processes
from trainers.launch.failures import results
from trainers.scoring import metrics
from trainers.tasks.config import Finetune

BATCH_SIZE = 64


def scores(job: StageJob, settings: Finetune, places: list[str]) -> list[Any]:
    """Of the models in folders of the workspace. By tasks: the driver needs no torch, and what has
    trained one model alone has imported all. What took several workers is scored one by one, for
    memory."""
    import ray

    task: Any = ray.remote(
        num_cpus=settings.worker_cpus, runtime_env=processes.runtime_env(settings)
    )(score)
    given = job.parents["examples"], settings.max_length, settings.worker_cpus
    at_once = len(places) if settings.most_workers == 1 else 1
    found: list[Any] = []
    while len(found) < len(places):
        chosen = places[len(found) :][:at_once]
        found += results([task.remote(job.storage, place, *given) for place in chosen])
    return found


def score(
    storage: Storage, place: str, examples: Artifact, max_length: int, threads: float | None = None
) -> Any:
    """Figures of the model in a folder, in fp32, on so many threads or as many as there are cores.
    Imports torch."""
    import torch

    from trainers.corpora.tokens import tokenizer as tokenizers
    from trainers.models.lean_imports import transformers
    from trainers.tasks.classify import encode, probabilities

    if threads is not None:
        torch.set_num_threads(max(1, int(threads)))
    model_folder = storage.local(place)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder).eval()
    tokenizer = tokenizers.load(model_folder)
    texts, labels = read_split(examples, "test")
    predicted = probabilities(model, encode(tokenizer, texts, max_length), BATCH_SIZE)
    numbers = [model.config.label2id[label] for label in labels]
    return metrics.classification(predicted.numpy(), np.array(numbers))
