"""A model from scratch, by size: the recipe's `pretrain.model`."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cluster.recipe.section import Invalid, Section

GATED = ("modernbert", "llama", "qwen3", "t5")
"""Architectures whose feed-forward layers have a gate (Shazeer 2020)."""
GROUPED = ("llama", "qwen3")
"""Architectures whose heads can share keys and values."""
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


class Shape(Section):
    """A model from scratch, by size. Standing for a Transformers config of that architecture."""

    architecture: Literal[
        "bert", "roberta", "electra", "modernbert", "gpt2", "llama", "qwen3", "t5"
    ] = "bert"
    parameters: int | None = Field(default=None, ge=1)
    """How many in all, embeddings included, such as 120M or 1.5B; within 10 %. Instead of
    hidden_size, layers, heads and intermediate_size, which follow from it."""
    hidden_size: int = Field(default=256, ge=8)
    layers: int = Field(default=4, ge=1)
    """Of t5: of its encoder, and as many of its decoder."""
    heads: int = Field(default=4, ge=1)
    intermediate_size: int | None = Field(default=None, ge=8)
    """4 x hidden_size by default; 8/3 x, rounded up to 32, for gated layers (modernbert, llama,
    qwen3, t5)."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Of llama and qwen3: heads of keys and values, each shared by as many of the others (Ainslie
    et al. 2023); as many as `heads` by default."""
    max_positions: int = Field(default=512, ge=8)
    """The longest sequence the model can take."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    config: dict[str, Any] = Field(default_factory=dict)
    """Further keys of the Transformers config, as they are."""

    @field_validator("parameters", mode="before")
    @classmethod
    def _with_unit(cls, value: Any) -> Any:
        """120M or 1.5B as a number; anything else as it is, for pydantic to judge."""
        written = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMB])", str(value))
        return value if written is None else round(float(written[1]) * UNITS[written[2]])

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads:
            raise Invalid("heads", f"{self.heads} does not divide hidden_size {self.hidden_size}")
        return self

    @model_validator(mode="after")
    def _parameters_decide(self) -> Self:
        decided = {"hidden_size", "layers", "heads", "intermediate_size"} & self.model_fields_set
        if self.parameters is not None and decided:
            key = sorted(decided)[0]
            raise Invalid(key, "follows from `parameters`; give one of them")
        return self

    @model_validator(mode="after")
    def _groups_are_equal(self) -> Self:
        if self.kv_heads is None:
            return self
        if self.architecture not in GROUPED:
            raise Invalid(
                "kv_heads", f"{self.architecture} has none; those that do: {', '.join(GROUPED)}"
            )
        if self.parameters is None and self.heads % self.kv_heads:
            raise Invalid("kv_heads", f"{self.kv_heads} does not divide heads {self.heads}")
        return self

    @property
    def inner_size(self) -> int:
        """The width of the feed-forward layers."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        gated = self.architecture in GATED
        return -(-self.hidden_size * 8 // 3 // 32) * 32 if gated else 4 * self.hidden_size
