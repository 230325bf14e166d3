"""The recipe's `pretrain` and `finetune` sections. They differ in data, loss and starting
weights."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from cluster.section import Conflict, Invalid, Section, operational
from trainers.engine_config import Zero, refuse_contradictions
from trainers.shape import Shape

if TYPE_CHECKING:
    from cluster.recipe import Recipe

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
VALIDATION_METRICS = ("accuracy", "loss")
"""What a classifier's validation reports: what `tune.metric` can be."""
TEST_METRICS = {"accuracy": "max", "macro_f1": "max", "calibration_error": "min"}
"""What its evaluation reports, shares all of them: what `serve.gate` can hold, and whether more or
less is better."""


class Elastic(Section):
    """As many workers as there is room for, at any time of the training."""

    min: int = operational(1, ge=1)
    """With room for fewer, training waits."""
    max: int = operational(..., ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise Invalid("min", f"{self.min} is over max = {self.max}")
        return self


def _kind_of_workers(value: Any) -> str:
    return "|section" if isinstance(value, Mapping | Elastic) else "|number"


Workers = Annotated[
    Annotated[int, Field(ge=1), Tag("|number")] | Annotated[Elastic, Tag("|section")],
    Discriminator(_kind_of_workers),
]


Shared = Literal["tokens", "weights"]
"""What workers with the same sequences share: a sequence's tokens, or a layer's weights."""


class Anomalies(Section):
    """Steps that would do harm are not taken; what else is done about them. The samples left out by
    it are told, and stand with the model's metrics."""

    non_finite: Literal["skip", "roll_back", "stop"] = "skip"
    """For a gradient that is not finite. `skip` goes on with the next batch. `roll_back` goes back
    to the weights of the last good checkpoint, and on behind this batch, so that what was learned
    since the checkpoint is gone with its samples (Chowdhery et al. 2022). `stop` ends the run (exit
    status 2)."""
    spike: Literal["ignore", "skip", "roll_back", "stop"] = "ignore"
    """The same, for a loss more than `sigma` standard deviations above the mean of the last
    `window` steps (Walsh et al. 2025)."""
    sigma: float = Field(default=6.0, gt=0)
    window: int = Field(default=128, ge=4)
    """Steps. Until half of them are known, no loss is a spike."""
    limit: int = Field(default=10, ge=0)
    """So many of the last `window` steps may be skipped; with one more the run ends (exit status
    2)."""


class Training(Section):
    """What pretraining and fine-tuning share."""

    batch_size: int = Field(default=32, ge=1)
    """Sequences in an optimizer step, on the whole cluster. Workers and micro-batches follow."""
    micro_batch_size: int = operational(16, ge=1)
    """Sequences that one worker takes through the model at once, at most."""
    optimizer: Literal["adamw", "lion", "adafactor"] = "adamw"
    """AdamW (Loshchilov & Hutter 2019); Lion (Chen et al. 2023), half its state, at a third to a
    tenth of its learning rate; Adafactor (Shazeer & Stern 2018), hardly any state, which needs
    zero.stage: 0."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak, after the warm-up. Adafactor takes it as a share of each matrix's own size."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How much of AdamW's and Lion's direction comes from the steps before."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """How much of AdamW's second moment and of Lion's momentum does. With more, such as 0.999, a
    short training does not forget its first steps."""
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    """How the learning rate falls to zero after the warm-up. `wsd` stays at its peak, and falls at
    the end (warmup-stable-decay; Hu et al. 2024)."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of the training over which the learning rate rises."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of the training over which it falls, under `wsd`."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Not applied to norms and biases."""
    gradient_clipping: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of a step."""
    anomalies: Anomalies = Anomalies()
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the training data."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Training ends at this time if it comes before the epochs do; the schedule follows the clock,
    so the learning rate still falls to zero. The result then depends on the machine's speed."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """`auto` is bf16 where the processor multiplies in it, else fp32. Under bf16 and fp16 the
    optimizer keeps the weights in fp32; fp16 scales the loss, and skips steps that overflow."""
    compile: bool = False
    """torch.compile; without a C++ compiler the model runs uncompiled, and a line says so."""
    activation_checkpointing: bool = operational(False)
    """Each layer's activations are computed again for the gradient, and not kept: much less memory
    for a third more computing."""
    zero: Zero = Zero()
    deepspeed: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of DeepSpeed's configuration, as they are, such as
    `{zero_optimization: {reduce_bucket_size: 50000000}}`."""
    base: str | None = None
    """A folder or hub id to start from. Without it pretraining starts from `model`, fine-tuning
    from what pretraining made."""
    evaluations: int = Field(default=1, ge=1, le=1000)
    """Passes over the validation data, evenly spread, the last at the end."""
    workers: Workers = operational(1)
    """A number, or `{min: 1, max: 4}`: workers that are lost are done without, and join again where
    there is room for them, from the last checkpoint on."""
    cpus_per_worker: int = operational(1, ge=1)
    gpus_per_worker: int = operational(0, ge=0)
    peak_tflops: float | None = operational(None, gt=0)
    """What one worker can multiply, in 10^12 FLOPs a second: the metric `mfu` is a share of it.
    Measured at the start by default; for GPUs, the data sheet's figure is customary."""
    checkpoint_minutes: float = operational(5.0, gt=0)
    """Of training between checkpoints. A lost worker costs at most so much work."""
    checkpoint_steps: int | None = operational(None, ge=1)
    """Steps between checkpoints, beside checkpoint_minutes: whichever comes first."""
    checkpoints_kept: int = operational(2, ge=1)
    """The last ones. More than one, since the newest may be damaged."""

    @model_validator(mode="after")
    def _batch_reaches_workers(self) -> Self:
        if self.batch_size * self.workers_a_group < self.most_workers:
            raise Invalid(
                "batch_size",
                f"{self.batch_size} is less than workers = {self.most_workers}; "
                "every worker needs a sequence in each step",
            )
        return self

    @model_validator(mode="after")
    def _engine_can_do_it(self) -> Self:
        if self.precision == "fp16" and self.gpus_per_worker == 0:
            raise Invalid("precision", "fp16 needs gpus_per_worker of 1 or more; CPUs take bf16")
        if self.precision == "fp16" and self.zero.stage == 0:
            raise Invalid(
                "precision", "fp16 needs zero.stage 1, 2 or 3: at 0 DeepSpeed scales no loss"
            )
        if self.optimizer == "adafactor" and self.zero.stage > 0:
            raise Invalid(
                "optimizer",
                f"adafactor needs zero.stage: 0, found {self.zero.stage}: it factors whole "
                "matrices, which ZeRO cuts",
            )
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise Invalid(
                "decay", f"decay = {self.decay} and warmup = {self.warmup} are over 1 together"
            )
        refuse_contradictions(self.deepspeed, dict(self))
        return self

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        if self.base is None:
            return super().identity()
        content = base_hash(self.base, f"{type(self).__name__.lower()}.base")
        return {**super().identity(), "base_content": content}

    @property
    def least_workers(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @property
    def most_workers(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers.max

    @property
    def workers_a_group(self) -> int:
        """How many have the same sequences, and share their tokens or the weights."""
        return 1

    @property
    def shared(self) -> Shared:
        """What they share."""
        return "tokens"

    @property
    def least_groups(self) -> int:
        """Of workers with the same sequences."""
        return self.least_workers // self.workers_a_group

    @property
    def worker_resources(self) -> dict[str, float]:
        """What one worker holds."""
        wanted: dict[str, float] = {"CPU": self.cpus_per_worker}
        if self.gpus_per_worker:
            wanted["GPU"] = self.gpus_per_worker
        return wanted

    @property
    def resources(self) -> dict[str, float]:
        """What all workers hold together, at least."""
        return {name: self.least_workers * one for name, one in self.worker_resources.items()}


class Pretrain(Training):
    objective: Literal["masked_lm", "causal_lm", "replaced_tokens", "span_corruption"] = "masked_lm"
    """What is learned: masked tokens (Devlin et al. 2019), each next token, which tokens a small
    generator has replaced (ELECTRA, Clark et al. 2020), or spans that are gone (T5, Raffel et al.
    2020)."""
    model: Shape | None = None
    """A model from scratch."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of tokens that masked LM predicts (Devlin et al. 2019), that the generator of
    replaced_tokens fills, or that are gone in span_corruption."""
    mean_span: float = Field(default=3.0, ge=1)
    """For span_corruption: tokens of a span."""
    whole_words: bool = False
    """Masks all pieces of a word or none: of words between spaces, and of Chinese words as jieba
    finds them (Cui et al. 2021)."""
    generator_size: float = Field(default=0.25, gt=0, le=1)
    """For replaced_tokens: the generator's width, of the model's."""
    generator_base: str | None = None
    """For replaced_tokens with `base`: a folder or hub id of the generator's weights. What raymill
    pretrained has them in its folder `generator`."""
    discriminator_weight: float = Field(default=50.0, gt=0)
    """For replaced_tokens: the discriminator's loss beside the generator's."""
    sequence_parallel: int = operational(1, ge=1)
    """Workers that share the tokens of each sequence, for sequences that one has no memory for
    (DeepSpeed-Ulysses, Jacobs et al. 2023); they come one after the other. For causal_lm with llama
    and qwen3, or a `base` like them. It divides `workers`, the attention heads and
    corpora.sequence_length."""
    tensor_parallel: int = operational(1, ge=1)
    """Workers that share the weights of each layer, for layers that one has no memory or no time
    for (Shoeybi et al. 2019, DeepSpeed's AutoTP); they come one after the other, best in one node.
    For causal_lm with llama and qwen3, or a `base` like them, and zero.stage 1 to 3. It divides
    `workers` and the model's heads, kv_heads and intermediate_size."""
    shuffle_window: int | None = Field(default=None, ge=1)
    """Shards whose sequences are shuffled together; all of them by default. For a corpus on remote
    storage that is larger than cluster.cache_gb, which must hold two such windows."""

    @model_validator(mode="after")
    def _fits_objective(self) -> Self:
        if (self.model is None) == (self.base is None):
            raise ValueError("give `model` (from scratch) or `base` (continue), one of them")
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
        if self.objective == "replaced_tokens":
            if (self.base is None) != (self.generator_base is None):
                raise Invalid("generator_base", "goes with `base`: give both, or `model`")
        elif self.generator_base is not None:
            raise Invalid("generator_base", "only objective: replaced_tokens has a generator")
        return self

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.workers_a_group == 1:
            return self
        if self.sequence_parallel > 1 and self.tensor_parallel > 1:
            raise Invalid("tensor_parallel", "cannot be with sequence_parallel yet; leave one out")
        key = "sequence_parallel" if self.sequence_parallel > 1 else "tensor_parallel"
        if not isinstance(self.workers, int) or self.workers % self.workers_a_group:
            found = self.workers if isinstance(self.workers, int) else "min and max"
            raise Invalid(
                key, f"{self.workers_a_group} does not divide workers, found {found}; set both"
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
    def workers_a_group(self) -> int:
        return self.sequence_parallel * self.tensor_parallel  # one of them is 1

    @property
    def shared(self) -> Shared:
        return "tokens" if self.tensor_parallel == 1 else "weights"

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        if self.generator_base is None:
            return super().identity()
        content = base_hash(self.generator_base, "pretrain.generator_base")
        return {**super().identity(), "generator_content": content}

    def conflicts(self, recipe: "Recipe") -> Iterator[Conflict]:
        if recipe.corpora is None:
            yield Conflict("pretrain", "needs the section corpora")
            return
        if self.model is not None and recipe.corpora.tokenizer.base is None:
            from trainers.sizing import NoSuchSize, sized

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
        if self.evaluation.without_pretraining and not (recipe.pretrain and recipe.pretrain.model):
            yield Conflict(
                "finetune.evaluation.without_pretraining",
                "needs pretrain.model: only a model from scratch can be built without its weights",
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
