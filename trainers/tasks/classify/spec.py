"""The recipe's section `finetune` with `task: classify`."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid, Recipe, operational
from trainers.corpora.examples.task_rows import Role
from trainers.tasks import spec
from trainers.tasks.pretraining.config import ENCODING
from trainers.tasks.spec import Metric

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact

LABELS = "labels.json"
"""Of the examples: all their labels, sorted."""


class Evaluation(spec.Evaluation):
    ngram: bool = True
    """A character n-gram logistic regression beside the model, as a sanity line."""


class Classify(spec.TaskSection):
    implementation: ClassVar[str] = "trainers.tasks.classify.task:ClassifyTask"
    predictor: ClassVar[str] = "trainers.tasks.classify.predictor:ClassifyPredictor"
    figures: ClassVar[str] = "trainers.tasks.classify.figures:figures"
    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role("text", "what is classified"),
        "label": Role("label", "its label, or a list of them with multi_label"),
    }
    objectives: ClassVar[tuple[str, ...]] = ENCODING
    route: ClassVar[str] = "/v1/classify"
    sample: ClassVar[Mapping[str, Any]] = {"text": "很好，非常满意！"}
    servable: ClassVar[Literal["encoder", "vllm_adapter", "vllm_merged"]] = "encoder"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("max", "accuracy"),
        "macro_f1": Metric("max", "macro-F1"),
        "micro_f1": Metric("max", "micro-F1"),
        "calibration_error": Metric("min", "calibration error"),
        "loss": Metric("min", "loss", highest=math.inf),
    }

    fixed: ClassVar[tuple[str, ...]] = (*spec.TaskSection.fixed, "labels", "multi_label")

    task: Literal["classify"] = "classify"
    labels: list[str] | None = Field(default=None, min_length=2)
    """All labels, in order; found in the data by default. Any other label in the data is
    refused."""
    multi_label: bool = False
    """A text may have several labels or none: the `label` of a row is a list, which JSON and
    Parquet have (a cell of CSV is one label). A label is given where its probability reaches a
    threshold, which is set on the validation split."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each text by how rare its label is in the training split (King & Zeng
    2001): the loss is as if all labels were as frequent. With multi_label, each label's texts weigh
    as much as the texts without it."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    evaluation: Evaluation = operational(Evaluation())

    @property
    def headline(self) -> str:
        return "micro_f1" if self.multi_label else "accuracy"

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        return ("accuracy", "micro_f1", "macro_f1", "loss")

    @property
    def test_metrics(self) -> tuple[str, ...]:
        calibration = () if self.multi_label else ("calibration_error",)
        return ("accuracy", "micro_f1", "macro_f1", *calibration)

    @property
    def several_labels(self) -> bool:
        return self.multi_label

    @property
    def baselines(self) -> Mapping[str, str]:
        return {"ngram": "trainers.tasks.classify.ngrams:ngram"} if self.evaluation.ngram else {}

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"texts": [row["text"] for row in rows]}

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise Invalid("labels", f"each only once, found {self.labels}")
        return self

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().faults(recipe)
        sources = recipe.corpora.example_sources(recipe, looks_far=False)
        labels = {name: source.label for name, source in sources.items()}
        if len({*labels.values()}) == 1 and None not in labels.values():
            name, label = next(iter(labels.items()))
            yield Conflict(
                f"corpora.sources.{name}.label",
                f"every labelled document has the label {label!r}, and finetune needs two; the "
                "column with the labels, if there is one, is `columns: {label: ...}`",
            )

    def refuse_labels(self, found: Mapping[str, str]) -> None:
        """Raises UserError for labels, with where each was found, that cannot be learned."""
        refuse_labels(found, self.labels)

    def refuse_examples(self, examples: "Artifact") -> None:
        label_order(examples, self.labels)

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        known = {"labels": label_order(examples, self.labels), "multi_label": self.multi_label}
        threshold = {"threshold": metrics["threshold"]} if self.multi_label else {}
        return {**super().card(examples, metrics), **known, **threshold}


def label_order(examples: "Artifact", wanted: Sequence[str] | None) -> list[str]:
    """The labels of a task in the order of their numbers: those wanted, or those found. Raises
    UserError for a label that is not wanted, and for fewer than two."""
    labels: list[str] = json.loads((examples.path / LABELS).read_text("utf-8"))
    refuse_labels(dict.fromkeys(labels, examples.id), wanted)
    return list(wanted or labels)


def refuse_labels(found: Mapping[str, str], wanted: Sequence[str] | None) -> None:
    """Raises UserError for labels that no classifier can be made of. `found` says where."""
    if len(found) < 2:
        raise UserError(
            "corpora.sources: classification needs two labels or more, found "
            f"{list(found) or 'no documents'}"
        )
    for label, where in found.items():
        if wanted is not None and label not in wanted:
            raise UserError(
                f"{where}: label {label!r} is not in finetune.labels ({', '.join(wanted)}); mend "
                "the file or the list"
            )
