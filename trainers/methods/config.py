"""The key `method` of a fine-tuning: what is trained, all weights or an adapter, with its own keys.

    method: lora
    method: {name: lora, rank: 8, dora: true}

Light, as all that checks a recipe: PEFT and torch are imported where the model is (adapt.py).
"""

import importlib.util
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Invalid, Recipe, Section, told_by


class Full(Section):
    """All weights (full fine-tuning)."""

    learning_rate: ClassVar[float] = 5e-5
    """What learning_rate is by default."""

    name: Literal["full"] = "full"


class Adapting(Section):
    """A method that leaves the base's weights as they are. A head that is of the task, and what the
    base has no weights for, is trained whole beside it."""

    learning_rate: ClassVar[float]
    """What learning_rate is by default."""
    merges: ClassVar[bool]
    """Whether it can become a part of the base's own weights."""
    packs: ClassVar[bool] = True
    """Whether rows can stand in one sequence."""

    name: str

    @property
    def is_merged(self) -> bool:
        """Whether the model that is made has the adapter in its own weights."""
        return False

    def advice(self, learning_rate: float, divisor: float = 1.0) -> Iterator[str]:
        """What to tell of values that seldom do well. What suits the task are the learning rates
        that suit supervised training, divided by `divisor`."""
        yield from ()


class Merging(Adapting):
    merges: ClassVar[bool] = True

    merge: bool = False
    """Makes a whole model, with the adapter in the base's own weights, in place of an adapter
    beside it."""

    @property
    def is_merged(self) -> bool:
        return self.merge


class LowRank(Merging):
    """What the methods with low-rank matrices share."""

    alpha: float = Field(default=32.0, gt=0)
    """What is learned counts alpha / rank times; with `rslora` alpha / sqrt(rank) times."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Of the adapter's inputs."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """The layers that are adapted: all linear ones of the model's body, or those whose names end
    so, such as `[q_proj, v_proj]`."""


class Lora(LowRank):
    """Two low-rank matrices beside each weight (Hu et al. 2022)."""

    learning_rate: ClassVar[float] = 5e-4

    name: Literal["lora"]
    rank: int = Field(default=16, ge=1)
    rslora: bool = False
    """Divides by the square root of the rank in place of the rank, so that higher ranks learn too
    (Kalajdzievski 2023)."""
    dora: bool = False
    """Learns the length of each weight's columns apart from their direction (Liu et al. 2024):
    closer to full fine-tuning at low ranks, and slower."""
    lora_plus: float | None = Field(default=None, ge=1)
    """The learning rate of the second matrices (B), as a multiple of that of the first ones
    (LoRA+, Hayou et al. 2024, who have 16). For adamw and lion."""
    base_bits: Literal[4, 8] | None = None
    """Rounds the frozen base to 4 bits (NF4) or 8 (int8) by bitsandbytes while the adapter is
    trained (QLoRA, Dettmers et al. 2023). Needs zero.stage 0 to 2. On CPUs it saves memory and no
    time. Evaluation and endpoints read the adapter beside the base as it was, not rounded."""

    @model_validator(mode="after")
    def _merges_what_it_learned_beside(self) -> Self:
        if self.merge and self.base_bits is not None:
            raise Invalid(
                "merge",
                f"true cannot be with base_bits = {self.base_bits}: what was learned beside a "
                "rounded base does not fit the whole one; leave one out",
            )
        return self

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        refused = None if self.base_bits is None else without_bitsandbytes(self.base_bits)
        if refused is not None:
            yield Conflict("finetune.method.base_bits", refused)


def without_bitsandbytes(bits: int) -> str | None:
    """What to say of a base in so many bits where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        return None
    return f"{bits} needs bitsandbytes; pip install 'raymill[quantized]' on every node"


class AdaLora(LowRank):
    """LoRA as a singular value decomposition, whose budget of ranks goes to the weights where it
    matters most (Zhang et al. 2023). Under zero.stage 0 to 2."""

    learning_rate: ClassVar[float] = 5e-3

    name: Literal["adalora"]
    rank: int = Field(default=16, ge=1)
    """Of each weight at the end, on average."""
    initial_rank: int = Field(default=24, ge=1)
    """Of each weight at the beginning."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the training before the budget begins to fall."""
    settled: float = Field(default=0.3, gt=0, lt=1)
    """Share of the training at its end, with the ranks as they are then."""
    every: int = Field(default=10, ge=1)
    """Steps from one allocation to the next."""
    orthogonality: float = Field(default=0.1, ge=0)
    """Weight of the penalty that keeps singular vectors orthogonal."""

    @model_validator(mode="after")
    def _budget_falls(self) -> Self:
        if self.initial_rank <= self.rank:
            raise Invalid(
                "initial_rank", f"{self.initial_rank} is not over rank = {self.rank}; set more"
            )
        if self.warmup + self.settled >= 1:
            raise Invalid(
                "settled", f"{self.settled} and warmup = {self.warmup} leave no time between them"
            )
        return self

    def advice(self, learning_rate: float, divisor: float = 1.0) -> Iterator[str]:
        if learning_rate < 2e-3 / divisor:
            yield (
                f"adalora takes thousands of steps at learning_rate = {learning_rate:g}, as its "
                f"singular values begin at 0; {5e-3 / divisor:g} is as fast as lora is by default"
            )


class VirtualTokens(Adapting):
    """What the methods with learned tokens in front of each sequence share."""

    merges: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    tokens: int = Field(default=20, ge=1)
    """How many; they take room of the model's positions."""


class Prefix(VirtualTokens):
    """Keys and values in front of each layer's own (Li & Liang 2021)."""

    learning_rate: ClassVar[float] = 1e-2

    name: Literal["prefix"]

    def advice(self, learning_rate: float, divisor: float = 1.0) -> Iterator[str]:
        if learning_rate < 1e-3 / divisor:
            usual = f"{1e-2 / divisor:g} is usual"
            yield f"prefix hardly learns at learning_rate = {learning_rate:g}; {usual}"


class Prompt(VirtualTokens):
    """Embeddings of tokens in front of the input (Lester et al. 2021)."""

    learning_rate: ClassVar[float] = 3e-2

    name: Literal["prompt"]

    def advice(self, learning_rate: float, divisor: float = 1.0) -> Iterator[str]:
        yield (
            "prompt stays far behind full fine-tuning in models under some billion parameters "
            "(Lester et al. 2021, figure 1); lora does not"
        )
        if learning_rate < 3e-3 / divisor:
            usual = f"{3e-2 / divisor:g} is usual"
            yield f"prompt hardly learns at learning_rate = {learning_rate:g}; {usual}"


class PTuning(VirtualTokens):
    """The same, of which a small network makes the embeddings (Liu et al. 2021)."""

    learning_rate: ClassVar[float] = 1e-3

    name: Literal["p_tuning"]
    hidden_size: int = Field(default=128, ge=1)
    """Of that network."""


class Ia3(Merging):
    """A factor for each key, value and inner unit of the feed-forward layers (Liu et al. 2022)."""

    learning_rate: ClassVar[float] = 3e-3

    name: Literal["ia3"]


class Bottleneck(Adapting):
    """Two small layers behind the attention and the feed-forward part of each layer (Houlsby et al.
    2019). raymill's own, which PEFT does not read."""

    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = False

    name: Literal["adapter"]
    size: int = Field(default=64, ge=1)
    """Units between the two."""


def refuse_further(base: str, method: Any) -> None:
    """Raises UserError where a model that was made by this method, a section as it is written in
    records, cannot be trained further. Pure."""
    adapter = TypeAdapter(Method).validate_python(method)
    if isinstance(adapter, Adapting) and not adapter.merges:
        raise UserError(
            f"base: {base} is a model with {adapter.name}, which cannot become a part of its "
            "weights, and so cannot be trained further; take one of full, lora, adalora or ia3"
        )


ServedBy = Literal["encoder", "vllm_adapter", "vllm_merged", "transformers"]
"""raymill's endpoint for encoders; vLLM, with the model as an adapter of its base, or whole; or
Transformers alone."""


def served_by(method: Section) -> ServedBy:
    """What can serve a model that makes texts. vLLM takes LoRA as an adapter, but neither DoRA nor
    layers that are trained whole (vllm-project/vllm#55796), which models of texts have none of.
    Pure."""
    if isinstance(method, Full) or (isinstance(method, Adapting) and method.is_merged):
        return "vllm_merged"
    return "vllm_adapter" if isinstance(method, Lora) and not method.dora else "transformers"


def _as_section(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Method = Annotated[
    Annotated[Full, Tag("|full")]
    | Annotated[Lora, Tag("|lora")]
    | Annotated[AdaLora, Tag("|adalora")]
    | Annotated[Prefix, Tag("|prefix")]
    | Annotated[Prompt, Tag("|prompt")]
    | Annotated[PTuning, Tag("|p_tuning")]
    | Annotated[Ia3, Tag("|ia3")]
    | Annotated[Bottleneck, Tag("|adapter")],
    told_by("name", "full"),
    BeforeValidator(_as_section),
]
"""The type of the key."""
