"""What a task is before torch is needed: its keys in a recipe, its columns, its metrics, its route.

The section `finetune` is one of these, chosen by its key `task` (see registry.py). A specification
names its implementation as strings, so that checking a recipe imports no torch.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid, Recipe, Section, nearest, operational
from cluster.store.artifacts import Artifact
from trainers.corpora.examples.task_rows import TaskRows
from trainers.engine.training_config import Training
from trainers.methods.config import (
    AdaLora,
    Adapting,
    Full,
    Lora,
    Method,
    Prefix,
    ServedBy,
    VirtualTokens,
    refuse_further,
    served_by,
)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure that says how good a model is: what a gate can hold and a search can follow."""

    mode: Literal["max", "min"]
    """Whether more or less is better."""
    title: str
    lowest: float = 0.0
    highest: float = 1.0

    def is_worse(self, value: float, limit: float) -> bool:
        """Whether a value is worse than a limit, or is no number."""
        return not (value <= limit if self.mode == "min" else value >= limit)


@dataclasses.dataclass(frozen=True)
class Shown:
    """How pages of evaluations show a row beside the answers to it."""

    text: str = "text"
    """The key of its record with what was asked."""
    text_title: str = "Text"
    score: str = "score"
    """The key of its record with how sure the model is, or how good its answer."""
    score_title: str = "Score"
    worst: str = (
        "Rows with most mistakes come first, and of as many those that the model was surest of: "
        "among them are labels that are wrong in the data. Texts are as they were cleaned."
    )
    """Which rows come first, by the severity of the tally."""


class Evaluation(Section):
    """What stands beside the model's own figures on the untouched test split."""

    without_pretraining: bool = False
    """The same model and settings from random weights, so that pretraining's worth is a figure."""
    seeds: int = Field(default=1, ge=1, le=20)
    """Fine-tunings of each kind; with two or more, means come with 95 % intervals."""


REFERENCE = "reference"
"""The column with what the base says of a row, for tasks that ask it (`asked_of_base`), and the
stage that makes it."""


class TaskSection(TaskRows, Training):
    """The section `finetune`: what every task has beside keys of its own.

    Its validators and `conflicts` are light. A task is a subclass, its implementation and a line in
    registry.py.
    """

    section: ClassVar[str] = "finetune"
    implementation: ClassVar[str]
    """`module:class` of its Task (task.py), made from (section, examples, start, tokenizer
    folder)."""
    predictor: ClassVar[str]
    """`module:class` of its Predictor (predictor.py)."""
    figures: ClassVar[str]
    """`module:function` from records to figures: a pure function."""
    tally: ClassVar[str]
    """`module:function` from records to their Tally (tally.py), of which intervals, slices and
    paired tests are made: a pure function."""
    marked: ClassVar[str | None] = None
    """`module:function` from a record to its text with what is wrong in it marked (`Marked` of
    report/page.py), where answers are parts of the text; else pages say them beside it. A pure
    function."""
    is_rendered: ClassVar[bool] = False
    """Whether the stage `render` makes token ids of its rows, before training."""
    shown: ClassVar[Shown] = Shown()
    objectives: ClassVar[tuple[str, ...]]
    """Objectives of pretraining whose models suit it."""
    route: ClassVar[str]
    """Of its endpoint."""
    sample: ClassVar[Mapping[str, Any]]
    """A row for a first request to its endpoint."""
    row_cost: ClassVar[int] = 1
    """About how many times as long as a forward of its tokens a row takes: parts of what is scored,
    which a lost worker costs again, are so many times smaller."""
    input_forms: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sets of roles of which any is what its model reads of a row to score; by default those of
    `sample`. Where that is a text, it is made of `tokens`, as of a sentence of CoNLL."""
    optional_inputs: ClassVar[tuple[str, ...]] = ()
    """Roles that a row to score may have besides."""
    servable: ClassVar[Literal["encoder", "vllm"]] = "encoder"
    """What serves its models: raymill's endpoint for encoders, or vLLM where the method lets it
    (`served_by`)."""
    metrics: ClassVar[Mapping[str, Metric]]
    """All that it can report."""
    rate_divisor: ClassVar[float] = 1.0
    """What suits the task is the learning rate that suits a method in supervised training, divided
    by this."""
    fixed: ClassVar[tuple[str, ...]] = ("base", "evaluations", "task")
    """Keys that all trials of a search share, to be comparable and to fit the same data."""

    task: str
    method: Method = Full()
    """What is trained: all weights (`full`), or an adapter beside frozen ones; its name, or a
    section with its name and keys of its own."""
    learning_rate: float = Field(default=Full.learning_rate, gt=0, le=1)
    """Peak, after the warm-up; by default what suits the method: 5e-5 for full, ten times that for
    lora; 1e-3 for full after the section pretrain, whose models are small. Adafactor takes it as a
    share of each matrix's own size."""
    max_length: int = Field(default=128, ge=8)
    """Tokens of a text that the model sees; what is longer is cut, and counted."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the head, where the architecture has one there."""
    group_by_length: bool = False
    """Puts texts of similar length into a batch, which then has less padding: faster where lengths
    differ, but the batches are less random. All texts still come once an epoch."""
    evaluation: Evaluation = operational(Evaluation())

    @model_validator(mode="after")
    def _rate_suits_the_method(self) -> Self:
        if "learning_rate" not in self.model_fields_set:
            rate = self.method.learning_rate
            if self.base is None and self.adapter is None:
                rate = Training.model_fields["learning_rate"].default
            # As a default: a trial with another method has another one.
            object.__setattr__(self, "learning_rate", rate)
        return self

    @model_validator(mode="after")
    def _method_can_be_trained(self) -> Self:
        refused = method_refusal(self)
        if refused is not None:
            raise Invalid("method", refused)
        return self

    @property
    def adapter(self) -> Adapting | None:
        return None if isinstance(self.method, Full) else self.method

    @property
    def virtual_tokens(self) -> int:
        """How many tokens the method puts in front of what a model reads. They take its
        positions."""
        return self.method.tokens if isinstance(self.method, VirtualTokens) else 0

    def in_front_of_max_length(self, is_encoder_decoder: bool) -> int:
        """Virtual tokens that max_length must leave room for. In an encoder-decoder they stand in
        front of what its encoder reads, and max_length is of what its decoder writes."""
        return 0 if is_encoder_decoder else self.virtual_tokens

    @property
    def served_by(self) -> ServedBy | None:
        return "encoder" if self.servable == "encoder" else served_by(self.method)

    @property
    def most_tokens(self) -> int | None:
        """How many tokens of an input are read; None where only the tokenizer of a model tells."""
        return self.max_length

    @property
    def headline(self) -> str:
        """The metric that says most: what a search follows by default."""
        raise NotImplementedError

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that validation reports: what `tune.metric` can be."""
        raise NotImplementedError

    @property
    def test_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that evaluation reports: what `serve.gate` can hold."""
        raise NotImplementedError

    @property
    def asked_of_base(self) -> tuple[str, ...]:
        """Splits whose rows the stage `reference` asks the base about, before training."""
        return ()

    @property
    def answering(self) -> Mapping[str, Any]:
        """What of its card says how a trained model answers, as plain JSON: an evaluation depends
        on it, and no training."""
        return {}

    @property
    def compares_base(self) -> bool:
        """Whether evaluation puts the answers of the base to the same rows beside the model's."""
        return False

    @property
    def baselines(self) -> Mapping[str, str]:
        """What evaluation puts beside the model, by name: `module:function`, called with the
        section and the examples, in a process without torch. It returns records of the test split,
        with their `id`s."""
        return {}

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The body of a request to its endpoint about these rows of examples."""
        raise NotImplementedError

    def refuse_base(self, base: Artifact) -> None:
        super().refuse_base(base)
        objective = base.manifest.inputs.get("pretrain", {}).get("objective")
        if objective is not None and objective not in self.objectives:
            raise UserError(
                f"finetune.base: {base.id} was pretrained by {objective}; {self.task} needs a "
                f"model of {' or '.join(self.objectives)}"
            )
        method = (base.manifest.inputs.get("finetune") or {}).get("method")
        if method is not None:
            refuse_further(base.id, method)

    def refuse_examples(self, examples: Artifact) -> None:
        """Raises UserError if the task cannot be learned from these examples."""

    @property
    def advice(self) -> Iterator[str]:
        if self.adapter is not None:
            for told in self.adapter.advice(self.learning_rate, self.rate_divisor):
                yield f"finetune.method: {told}"

    def card(self, examples: Artifact, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What its Predictor must know of a model, as plain JSON; `metrics` are of the
        validation."""
        return {"max_length": self.max_length}

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().faults(recipe)
        yield from self.method.faults(recipe)

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
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
        if self.evaluation.without_pretraining and self.adapter is not None:
            yield Conflict(
                "finetune.evaluation.without_pretraining",
                f"needs method: full, found {self.adapter.name}: an adapter of random weights "
                "says nothing",
            )
        if recipe.pretrain is None:
            return
        if recipe.pretrain.objective not in self.objectives:
            yield Conflict(
                "finetune.task",
                f"{self.task} needs pretrain.objective: {' or '.join(self.objectives)}",
            )
        shape = recipe.pretrain.model
        in_front = self.in_front_of_max_length(recipe.pretrain.objective == "span_corruption")
        if shape is not None and self.max_length + in_front > shape.max_positions:
            behind = f" behind method.tokens = {in_front}" if in_front else ""
            yield Conflict(
                "finetune.max_length",
                f"{self.max_length}{behind} is over pretrain.model.max_positions = "
                f"{shape.max_positions}",
            )


def method_refusal(settings: TaskSection) -> str | None:
    """Why a method cannot be trained with the other keys of its section, or None. Pure."""
    method, stage = settings.method, settings.zero.stage
    if isinstance(method, AdaLora) and stage == 3:
        return (
            "adalora needs zero.stage: 0, 1 or 2, found 3, which cuts the matrices whose importance"
            " it measures"
        )
    if isinstance(method, Prefix) and settings.activation_checkpointing:
        return (
            "prefix needs activation_checkpointing: false, found true, by which Transformers keeps "
            "no keys and values, so that none are in front"
        )
    if not isinstance(method, Lora):
        return None
    if method.base_bits is not None and stage == 3:
        return f"base_bits = {method.base_bits} needs zero.stage: 0, 1 or 2, found 3"
    if method.lora_plus is not None and settings.optimizer not in ("adamw", "lion"):
        return f"lora_plus needs optimizer: adamw or lion, found {settings.optimizer}"
    return None


def gate_refusal(task: type[TaskSection], name: str, limit: float) -> str | None:
    """Why this can be no gate of a task, or None. Pure."""
    metric = task.metrics.get(name)
    if metric is None:
        known = ", ".join(task.metrics)
        return f"no such metric, there are {known}{nearest(name, task.metrics)}"
    if metric.lowest <= limit <= metric.highest:
        return None
    highest = "" if math.isinf(metric.highest) else f" to {metric.highest:g}"
    return f"{metric.title} is a number from {metric.lowest:g}{highest}, found {limit:g}"
