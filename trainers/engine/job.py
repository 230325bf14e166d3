"""A training as its driver describes it: what every rank needs to begin.

Light, as all that a driver imports for a training: torch and Transformers take a core ten seconds,
in which the workers import them too.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.store.artifacts import Draft
from trainers.engine.training_config import Training

if TYPE_CHECKING:
    from trainers.tasks.task import Task


Report = Callable[[dict[str, float]], None]
"""Takes the metrics of an evaluation, on every rank."""


@dataclasses.dataclass(frozen=True)
class JournalConfig:
    """Has a journal written beside the checkpoints."""

    recipe: str
    began: float
    """When the command came to this stage, in seconds of the Unix epoch."""
    trackers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """Picklable: all that a rank needs."""

    task: Callable[[], "Task"]
    """Makes the task where it is learned."""
    settings: Training
    seed: int
    draft: Draft | None = None
    """Where the model and its checkpoints go; without it neither is kept, as in a short trial."""
    journal: JournalConfig | None = None


class Ended(Exception):
    """The training was asked to end before it was done, and can go on."""
