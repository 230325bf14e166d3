"""A task with a fixed set of labels: those of the recipe, or those in the data."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Invalid
from trainers.tasks.spec import TaskSection

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact

LABELS = "labels.json"
"""Of the examples: all their labels, sorted."""


class LabelledTask(TaskSection):
    fixed: ClassVar[tuple[str, ...]] = (*TaskSection.fixed, "labels")
    least_labels: ClassVar[int] = 1
    """With fewer there is nothing to tell apart."""

    labels: list[str] | None = Field(default=None, min_length=1)
    """All labels, in order; found in the data by default. Any other label in the data is
    refused."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise Invalid("labels", f"each only once, found {self.labels}")
        return self

    def label_order(self, examples: "Artifact") -> list[str]:
        """The labels in the order of their numbers: those of the recipe, or those found. Raises
        UserError as `refuse_labels` does."""
        found: list[str] = json.loads((examples.path / LABELS).read_text("utf-8"))
        self.refuse_labels(dict.fromkeys(found, examples.id))
        return list(self.labels or found)

    @property
    def named_labels(self) -> Sequence[str]:
        return self.labels or ()

    def refused_label(self, label: str) -> str | None:
        if self.labels is None or label in self.labels:
            return None
        return (
            f"label {label!r} is not in finetune.labels ({', '.join(self.labels)}); mend the file "
            "or the list"
        )

    def too_few_labels(self, labels: Collection[str]) -> str | None:
        if len(labels) >= self.least_labels:
            return None
        least = "a label" if self.least_labels == 1 else "two labels or more"
        return f"{self.task} needs {least}, found {[*labels] or 'no documents'}"

    def refuse_examples(self, examples: "Artifact") -> None:
        self.label_order(examples)

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().card(examples, metrics), "labels": self.label_order(examples)}
