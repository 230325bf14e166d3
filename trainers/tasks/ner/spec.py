"""The recipe's section `finetune` with `task: ner`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Invalid, operational
from trainers.tasks import spec
from trainers.tasks.labelled import LabelledTask
from trainers.tasks.ner.rows import EntityRows
from trainers.tasks.pretraining.config import ENCODING
from trainers.tasks.spec import Metric

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact


class Evaluation(spec.Evaluation):
    gazetteer: bool = True
    """Beside the model, a list of the training split's entities that is looked up in each text."""


class Ner(EntityRows, LabelledTask):
    implementation: ClassVar[str] = "trainers.tasks.ner.task:NerTask"
    predictor: ClassVar[str] = "trainers.tasks.ner.predictor:NerPredictor"
    figures: ClassVar[str] = "trainers.tasks.ner.figures:figures"
    tally: ClassVar[str] = "trainers.tasks.ner.figures:tally"
    marked: ClassVar[str | None] = "trainers.tasks.ner.mistakes:marked"
    objectives: ClassVar[tuple[str, ...]] = ENCODING
    route: ClassVar[str] = "/v1/ner"
    sample: ClassVar[Mapping[str, Any]] = {"text": "鲁迅1881年生于浙江绍兴，后来在北京大学任教。"}
    input_forms: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("tokens",))
    metrics: ClassVar[Mapping[str, Metric]] = {
        "span_f1": Metric("max", "span F1"),
        "span_precision": Metric("max", "span precision"),
        "span_recall": Metric("max", "span recall"),
        "macro_f1": Metric("max", "macro-F1"),
        "loss": Metric("min", "loss", highest=math.inf),
    }
    fixed: ClassVar[tuple[str, ...]] = (*LabelledTask.fixed, "max_windows")

    task: Literal["ner"] = "ner"
    head: Literal["tags", "spans"] = "tags"
    """How entities are told. `tags`: a BIO tag of every token, decoded to the most probable
    sequence that is possible; of entities that are nested or overlap it learns the outermost.
    `spans`: a score of every span by every label (Efficient GlobalPointer, Su et al. 2022), which
    takes nested ones too, but none that is longer than `stride` where two windows meet."""
    max_length: int = Field(default=128, ge=8)
    """Tokens of a window, with special ones."""
    stride: int = Field(default=32, ge=0)
    """Tokens that two windows of a text share, where it is longer than max_length. Each token is
    learned and read in the window that has most context of it."""
    max_windows: int = Field(default=8, ge=1)
    """Of one text. What is behind them is not read: counted in training, `truncated` in answers."""
    evaluation: Evaluation = operational(Evaluation())

    @property
    def most_tokens(self) -> int | None:
        """Of several windows it depends on how many special tokens each has."""
        return self.max_length if self.max_windows == 1 else None

    @property
    def headline(self) -> str:
        return "span_f1"

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        return (*self.test_metrics, "loss")

    @property
    def test_metrics(self) -> tuple[str, ...]:
        return ("span_f1", "span_precision", "span_recall", "macro_f1")

    @property
    def baselines(self) -> Mapping[str, str]:
        target = "trainers.tasks.ner.gazetteer:gazetteer"
        return {"gazetteer": target} if self.evaluation.gazetteer else {}

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"texts": [row["text"] for row in rows]}

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.stride > self.max_length // 2:
            raise Invalid("stride", f"{self.stride} is over half of max_length = {self.max_length}")
        return self

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        reading = {"head": self.head, "stride": self.stride, "max_windows": self.max_windows}
        return {**super().card(examples, metrics), **reading}
