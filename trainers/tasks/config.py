"""The recipe's section `finetune`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Conflict, Invalid, Section, operational
from trainers.engine.training_config import Training
from trainers.tasks.pretraining.config import ENCODING

if TYPE_CHECKING:
    from cluster.recipe.loading import Recipe

VALIDATION_METRICS = ("accuracy", "loss")
"""What a classifier's validation reports: what `tune.metric` can be."""
TEST_METRICS = {"accuracy": "max", "macro_f1": "max", "calibration_error": "min"}
"""What its evaluation reports, shares all of them: what `serve.gate` can hold, and whether more or
less is better."""


class Evaluation(Section):
    """What stands beside the model's own figures on the untouched test split."""

    ngram: bool = True
    """A character n-gram logistic regression, as a sanity line."""
    without_pretraining: bool = False
    """The same model and settings from random weights, so that pretraining's worth is a figure."""
    seeds: int = Field(default=1, ge=1, le=20)
    """Fine-tunings of each kind; with two or more, means come with 95 % intervals."""


class Finetune(Training):
    task: Literal["classify"] = "classify"
    labels: list[str] | None = Field(default=None, min_length=2)
    """All labels, in order; found in the data by default. Any other label in the data is
    refused."""
    max_length: int = Field(default=128, ge=8)
    """Tokens of a text that the model sees."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the classifier, where the architecture has one there."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    evaluation: Evaluation = operational(Evaluation())

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise Invalid("labels", f"each only once, found {self.labels}")
        return self

    def conflicts(self, recipe: "Recipe") -> Iterator[Conflict]:
        if recipe.corpora is None:
            yield Conflict("finetune", "needs the section corpora")
        if (self.base is None) == (recipe.pretrain is None):
            yield Conflict(
                "finetune.base",
                "give it, or a section pretrain, one of them: fine-tuning starts from either",
            )
        if self.evaluation.without_pretraining and (
            recipe.pretrain is None or recipe.pretrain.base is not None
        ):
            yield Conflict(
                "finetune.evaluation.without_pretraining",
                "needs pretrain.model or pretrain.like: only a model from scratch can be built "
                "without its weights",
            )
        if recipe.pretrain is None:
            return
        if recipe.pretrain.objective not in ENCODING and self.task == "classify":
            yield Conflict(
                "finetune.task", f"classify needs pretrain.objective: {' or '.join(ENCODING)}"
            )
        shape = recipe.pretrain.model
        if shape is not None and self.max_length > shape.max_positions:
            yield Conflict(
                "finetune.max_length",
                f"{self.max_length} is over pretrain.model.max_positions = {shape.max_positions}",
            )
