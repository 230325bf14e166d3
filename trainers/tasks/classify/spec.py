"""The recipe's section `finetune` with `task: classify`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cluster.recipe.section import Conflict, Recipe, operational
from trainers.corpora.examples.task_rows import Role
from trainers.tasks import spec
from trainers.tasks.labelled import LabelledTask
from trainers.tasks.pretraining.config import ENCODING
from trainers.tasks.spec import Metric

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact


class Evaluation(spec.Evaluation):
    ngram: bool = True
    """A character n-gram logistic regression beside the model, as a sanity line."""


class Classify(LabelledTask):
    implementation: ClassVar[str] = "trainers.tasks.classify.task:ClassifyTask"
    predictor: ClassVar[str] = "trainers.tasks.classify.predictor:ClassifyPredictor"
    figures: ClassVar[str] = "trainers.tasks.classify.figures:figures"
    tally: ClassVar[str] = "trainers.tasks.classify.figures:tally"
    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role("text", "what is classified"),
        "label": Role("label", "its label, or a list of them with multi_label"),
    }
    objectives: ClassVar[tuple[str, ...]] = ENCODING
    route: ClassVar[str] = "/v1/classify"
    sample: ClassVar[Mapping[str, Any]] = {"text": "很好，非常满意！"}
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("max", "accuracy"),
        "macro_f1": Metric("max", "macro-F1"),
        "micro_f1": Metric("max", "micro-F1"),
        "calibration_error": Metric("min", "calibration error"),
        "loss": Metric("min", "loss", highest=math.inf),
    }

    fixed: ClassVar[tuple[str, ...]] = (*LabelledTask.fixed, "multi_label")
    least_labels: ClassVar[int] = 2

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

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        threshold = {"threshold": metrics["threshold"]} if self.multi_label else {}
        known = {"multi_label": self.multi_label, **threshold}
        return {**super().card(examples, metrics), **known}
