"""The recipe's section `pretrain`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Conflict, Invalid, Recipe, operational
from trainers.engine.training_config import Training
from trainers.models.shape import Shape

MASKED = ("bert", "roberta", "electra", "modernbert")
CAUSAL = ("gpt2", "llama", "qwen3")
SUITED = {
    "masked_lm": MASKED,
    "causal_lm": CAUSAL,
    "replaced_tokens": ("electra",),
    "span_corruption": ("t5",),
}
"""Architectures from scratch, by objective."""
ENCODING = ("masked_lm", "replaced_tokens")
"""Objectives whose models see both sides of a token, as classifiers do."""


class Pretrain(Training):
    section: ClassVar[str] = "pretrain"

    objective: Literal["masked_lm", "causal_lm", "replaced_tokens", "span_corruption"] = "masked_lm"
    """What is learned: masked tokens (Devlin et al. 2019), each next token, which tokens a small
    generator has replaced (ELECTRA, Clark et al. 2020), or spans that are gone (T5, Raffel et al.
    2020)."""
    model: Shape | None = None
    """A model from scratch, by size."""
    like: str | None = None
    """Another model, named as `base` names files or a hub id: one from scratch with its
    architecture and sizes, of which `config.json` alone is read; but for the tokens, which are the
    corpus' own."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of tokens that masked LM predicts (Devlin et al. 2019), that the generator of
    replaced_tokens fills, or that are gone in span_corruption."""
    mean_span: float = Field(default=3.0, ge=1)
    """For span_corruption: tokens of a span."""
    whole_words: bool = False
    """Masks all pieces of a word or none: of words between spaces, and of Chinese words as jieba
    finds them (Cui et al. 2021)."""
    generator_size: float = Field(default=0.25, gt=0, le=1)
    """For replaced_tokens: the generator's width, of the model's. A `base` that raymill pretrained
    has its generator beside it, which goes on too."""
    discriminator_weight: float = Field(default=50.0, gt=0)
    """For replaced_tokens: the discriminator's loss beside the generator's."""
    sequence_parallel: int = operational(1, ge=1)
    """Workers that share the tokens of each sequence, for sequences that one has no memory for
    (DeepSpeed-Ulysses, Jacobs et al. 2023); they come one after the other. For causal_lm with llama
    and qwen3, also by `like` or `base`. It divides `workers`, the attention heads and
    corpora.sequence_length."""
    tensor_parallel: int = operational(1, ge=1)
    """Workers that share the weights of each layer, for layers that one has no memory or no time
    for (Shoeybi et al. 2019, DeepSpeed's AutoTP); they come one after the other, best in one node.
    For causal_lm with llama and qwen3, also by `like` or `base`, and zero.stage 1 to 3. It divides
    `workers` and the model's heads, kv_heads and intermediate_size."""
    shuffle_window: int | None = Field(default=None, ge=1)
    """Shards whose sequences are shuffled together; all of them by default. For a corpus on remote
    storage that is larger than cluster.cache_gb, which must hold two such windows."""

    @model_validator(mode="after")
    def _fits_objective(self) -> Self:
        if [self.model, self.like, self.base].count(None) != 2:
            raise ValueError(
                "give `model` or `like` (from scratch) or `base` (continue), one of them"
            )
        if self.model is not None:
            suited = SUITED[self.objective]
            if self.model.architecture not in suited:
                found = self.model.architecture
                fits = [objective for objective, names in SUITED.items() if found in names]
                raise Invalid(
                    "objective",
                    f"{self.objective} needs an architecture of {', '.join(suited)}, "
                    f"found {found!r}, which goes with {' and '.join(fits)}",
                )
        if self.whole_words and self.objective not in ENCODING:
            raise Invalid("whole_words", f"{self.objective} masks no words; leave it out")
        return self

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.workers_per_group == 1:
            return self
        if self.sequence_parallel > 1 and self.tensor_parallel > 1:
            raise Invalid("tensor_parallel", "cannot be with sequence_parallel yet; leave one out")
        key = "sequence_parallel" if self.sequence_parallel > 1 else "tensor_parallel"
        is_elastic = self.least_workers != self.most_workers
        if is_elastic or self.least_workers % self.workers_per_group:
            found = "min and max" if is_elastic else self.least_workers
            raise Invalid(
                key, f"{self.workers_per_group} does not divide workers, found {found}; set both"
            )
        if self.objective != "causal_lm":
            raise Invalid(key, f"needs objective: causal_lm, found {self.objective}")
        if self.model is not None and self.model.architecture not in ("llama", "qwen3"):
            found = self.model.architecture
            raise Invalid(key, f"needs llama or qwen3, found {found!r}")
        if self.compile:
            raise Invalid("compile", f"cannot be with {key} yet; leave it out")
        if key == "tensor_parallel" and self.zero.stage == 0:
            raise Invalid(
                key,
                "needs zero.stage 1, 2 or 3: at 0 DeepSpeed counts too little of a cut gradient",
            )
        passed: Any = self.deepspeed.get("zero_optimization", {})
        if key == "sequence_parallel" and passed.get("reduce_scatter") is False:
            raise Invalid(
                "deepspeed.zero_optimization.reduce_scatter",
                "must be true with sequence_parallel: else DeepSpeed's stage 3 averages some "
                "gradients over workers, and others over groups of them",
            )
        return self

    @property
    def sp_size(self) -> int:
        return self.sequence_parallel

    @property
    def tp_size(self) -> int:
        return self.tensor_parallel

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        from trainers.corpora.reading.sources import missing_folders

        yield from super().faults(recipe)
        yield from missing_folders({"pretrain.like": self.like}, "config.json")

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        identity = super().identity()
        if self.like is not None:
            identity["like_content"] = base_hash(self.like, "pretrain.like", "config.json")
        return identity

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        if recipe.corpora is None:
            yield Conflict("pretrain", "needs the section corpora")
            return
        if self.model is not None and recipe.corpora.tokenizer.base is None:
            from trainers.models.sizing import NoSuchSize, sized

            try:
                sized(self.model, recipe.corpora.tokenizer.vocabulary_size)
            except NoSuchSize as error:
                yield Conflict("pretrain.model.parameters", str(error))
        if self.model is not None and self.tensor_parallel > 1:
            yield from self._uneven(self.model)
        if recipe.corpora.sequence_length % self.sequence_parallel:
            yield Conflict(
                "pretrain.sequence_parallel",
                f"{self.sequence_parallel} does not divide corpora.sequence_length = "
                f"{recipe.corpora.sequence_length}",
            )
        if self.model is not None and recipe.corpora.sequence_length > self.model.max_positions:
            yield Conflict(
                "corpora.sequence_length",
                f"{recipe.corpora.sequence_length} is over pretrain.model.max_positions = "
                f"{self.model.max_positions}",
            )

    def _uneven(self, model: Shape) -> Iterator[Conflict]:
        """Where tensor_parallel does not divide what the recipe says of the model."""
        for key in ("heads", "kv_heads", "intermediate_size"):
            size = getattr(model, key)
            if size is not None and model.parameters is None and size % self.tensor_parallel:
                yield Conflict(
                    "pretrain.tensor_parallel",
                    f"{self.tensor_parallel} does not divide pretrain.model.{key} = {size}",
                )
