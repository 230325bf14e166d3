"""The recipe's section `finetune` with `task: prefer`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Conflict, Invalid, Recipe
from trainers.methods.config import Full, Lora, VirtualTokens
from trainers.tasks.conversations.spec import ConversationTask
from trainers.tasks.prefer.rows import PreferenceRows
from trainers.tasks.spec import Metric

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact

PairOverlong = Literal["drop", "keep_start", "keep_end"]
"""As `Overlong`, of both answers at once: they are compared, so that neither is split."""
WITHOUT_REFERENCE = ("simpo", "orpo")
BETA = {"sigmoid": 0.1, "ipo": 0.1, "robust": 0.1, "simpo": 2.0, "orpo": 0.1}
"""By default: of the papers' own experiments, the middle ones."""
GAMMA = 1.0
LOWEST = -math.inf


class Prefer(PreferenceRows, ConversationTask):
    implementation: ClassVar[str] = "trainers.tasks.prefer.task:PreferTask"
    predictor: ClassVar[str] = "trainers.tasks.prefer.predictor:PreferPredictor"
    figures: ClassVar[str] = "trainers.tasks.prefer.figures:figures"
    tally: ClassVar[str] = "trainers.tasks.prefer.figures:tally"
    route: ClassVar[str] = "/v1/chat/completions"
    sample: ClassVar[Mapping[str, Any]] = {
        "prompt": "What is the capital of France?",
        "chosen": "Paris.",
        "rejected": "Lyon.",
    }
    input_forms: ClassVar[tuple[tuple[str, ...], ...]] = PreferenceRows.row_forms
    optional_inputs: ClassVar[tuple[str, ...]] = ("system", "tools")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "reward_accuracy": Metric("max", "reward accuracy"),
        "margin": Metric("max", "reward margin", LOWEST, math.inf),
        "kl": Metric("min", "KL per token", highest=math.inf),
        "chosen_log_probability": Metric("max", "log-probability of chosen answers", LOWEST, 0.0),
        "rejected_log_probability": Metric(
            "min", "log-probability of rejected answers", LOWEST, 0.0
        ),
        "loss": Metric("min", "loss", LOWEST, math.inf),
    }
    rate_divisor: ClassVar[float] = 50.0
    fixed: ClassVar[tuple[str, ...]] = (*ConversationTask.fixed, "loss", "reference")

    task: Literal["prefer"] = "prefer"
    loss: Literal["sigmoid", "ipo", "robust", "simpo", "orpo"] = "sigmoid"
    """What is learned of two answers to a prompt. With a reference, which is the model before
    training: `sigmoid` (DPO, Rafailov et al. 2023), `ipo` (Azar et al. 2023), `robust` (Chowdhury
    et al. 2024); by methods that begin there, which prefix, prompt and p_tuning do not. Without
    one: `simpo` (Meng et al. 2024), `orpo` (Hong et al. 2024), which also learns the chosen answer
    and needs no supervised training before."""
    learning_rate: float = Field(default=Full.learning_rate / rate_divisor, gt=0, le=1)
    """Peak, after the warm-up; by default what suits the method: 1e-6 for full, ten times that for
    lora."""
    beta: float | None = Field(default=None, gt=0)
    """How much a difference between answers counts, so with more the model stays nearer to its
    reference: tau of IPO, lambda of ORPO. By default 0.1, of SimPO 2."""
    gamma: float | None = Field(default=None, ge=0)
    """For simpo: by how much the chosen answer's reward is to be higher. By default 1."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """For robust, which needs it: the share of pairs that are probably the wrong way round."""
    reference: Literal["auto", "scored", "adapter_off"] = "auto"
    """What says how probable answers were before training. `adapter_off`: the model without its
    adapter, in every step, which computes half as much again. `scored`: the base, asked once before
    training; what it says is kept for all trainings on the same rows. `auto` is the first with an
    adapter, else the second."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens of a prompt with either answer."""
    overlong: PairOverlong = "drop"
    """What becomes of a pair where the prompt with either answer has more than max_length tokens.
    All such are counted; so are pairs of which no token of an answer is left."""

    @model_validator(mode="after")
    def _rate_suits_preference(self) -> Self:
        if "learning_rate" not in self.model_fields_set:
            rate = self.method.learning_rate / self.rate_divisor
            object.__setattr__(self, "learning_rate", rate)
        return self

    @model_validator(mode="after")
    def _has_the_keys_of_its_loss(self) -> Self:
        if self.loss == "robust" and not self.label_smoothing:
            raise Invalid(
                "label_smoothing",
                "loss: robust needs the share of pairs that are the wrong way round, such as 0.1",
            )
        if self.loss != "robust" and self.label_smoothing:
            raise Invalid("label_smoothing", f"is of loss: robust, found loss: {self.loss}")
        if self.loss != "simpo" and self.gamma is not None:
            raise Invalid("gamma", f"is of loss: simpo, found loss: {self.loss}")
        if not self.has_reference and self.reference != "auto":
            raise Invalid("reference", f"loss: {self.loss} has none; leave it out")
        if self.is_scored and isinstance(self.method, Lora) and self.method.base_bits is not None:
            raise Invalid(
                "reference",
                f"scored asks the whole base, not that of base_bits = {self.method.base_bits}, "
                "which the adapter is trained beside; leave it out",
            )
        if self.reference == "adapter_off" and self.adapter is None:
            raise Invalid("reference", "adapter_off needs a method with an adapter, such as lora")
        if self.has_reference and isinstance(self.method, VirtualTokens):
            raise Invalid(
                "method",
                f"the tokens that {self.method.name} begins with are drawn at random, so its "
                f"answers are not those before training, which loss: {self.loss} compares with; "
                "take lora, ia3 or adapter, or loss: simpo or orpo",
            )
        return self

    @property
    def has_reference(self) -> bool:
        return self.loss not in WITHOUT_REFERENCE

    @property
    def is_scored(self) -> bool:
        """Whether training reads its reference from what the base was asked before."""
        is_chosen = self.adapter is None if self.reference == "auto" else self.reference == "scored"
        return self.has_reference and is_chosen

    @property
    def asked_of_base(self) -> tuple[str, ...]:
        """With a reference at least the test split: a model that is evaluated has no base beside
        it."""
        if not self.has_reference:
            return ()
        return ("train", "validation", "test") if self.is_scored else ("test",)

    @property
    def temperature(self) -> float:
        """Beta, by default that of the loss."""
        return BETA[self.loss] if self.beta is None else self.beta

    @property
    def target_margin(self) -> float:
        """Gamma, which only SimPO looks at."""
        return GAMMA if self.gamma is None else self.gamma

    @property
    def headline(self) -> str:
        return "reward_accuracy"

    @property
    def test_metrics(self) -> tuple[str, ...]:
        kl = ("kl",) if self.has_reference else ()
        return (
            "reward_accuracy",
            "margin",
            *kl,
            "chosen_log_probability",
            "rejected_log_probability",
        )

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        return (*self.test_metrics, "loss")

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = ("prompt", "chosen", "rejected")
        return {"pairs": [{name: row[name] for name in names if name in row} for row in rows]}

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().conflicts(recipe)
        if self.evaluation.without_pretraining and self.has_reference:
            yield Conflict(
                "finetune.evaluation.without_pretraining",
                f"loss: {self.loss} is learned against the model before training, which random "
                "weights are not; leave it out",
            )

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        keys = {"loss": self.loss, "beta": self.temperature, "has_reference": self.has_reference}
        return {**super().card(examples, metrics), **keys}
