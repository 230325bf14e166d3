"""A task that has rows of entities, and is nothing else."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from trainers.tasks.ner.rows import EntityRows
from trainers.tasks.pretraining.config import ENCODING
from trainers.tasks.spec import Metric, TaskSection


class Name(EntityRows, TaskSection):
    objectives: ClassVar[tuple[str, ...]] = ENCODING
    servable: ClassVar[Any] = "encoder"
    metrics: ClassVar[Mapping[str, Metric]] = {"loss": Metric("min", "loss", highest=math.inf)}
    task: Literal["name"] = "name"
    headline: ClassVar[str] = "loss"  # type: ignore[misc, assignment]
    validation_metrics: ClassVar[tuple[str, ...]] = ("loss",)  # type: ignore[misc, assignment]
    test_metrics: ClassVar[tuple[str, ...]] = ()  # type: ignore[misc, assignment]
