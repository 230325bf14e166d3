"""The keys that `pretrain` and `finetune` share."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from cluster.recipe.section import Conflict, Invalid, Recipe, Section, operational
from cluster.store.artifacts import Artifact
from cluster.store.bases import taken_for_hub_id
from cluster.store.storage import Storage
from trainers.engine.deepspeed_config import Zero, refuse_contradictions
from trainers.methods.config import Adapting, ServedBy
from trainers.models.published import refuse_damaged


class Elastic(Section):
    """As many workers as there is room for, at any time."""

    min: int = operational(1, ge=1)
    """With room for fewer, training waits."""
    max: int = operational(..., ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise Invalid("min", f"{self.min} is over max = {self.max}")
        return self


def _kind(value: Any) -> str:
    if value == "auto":
        return "|auto"
    return "|section" if isinstance(value, Mapping | Elastic) else "|number"


Number = Annotated[int, Field(ge=1), Tag("|number")]
Auto = Annotated[Literal["auto"], Tag("|auto")]
Workers = Annotated[
    Number | Auto | Annotated[Elastic, Tag("|section")],
    Discriminator(_kind),
]
Cpus = Annotated[
    Number | Auto, Discriminator(lambda value: "|auto" if value == "auto" else "|number")
]


class Anomalies(Section):
    """What is done about steps that would do harm, besides not taking them. The samples that are
    left out are told, and listed in the model's metrics."""

    non_finite: Literal["skip", "roll_back", "stop"] = "skip"
    """For a gradient that is not finite. `skip` goes on with the next batch. `roll_back` goes back
    to the weights of the last good checkpoint, and on behind this batch: what was learned between
    is lost (Chowdhery et al. 2022). `stop` ends the run (exit status 2)."""
    spike: Literal["ignore", "skip", "roll_back", "stop"] = "ignore"
    """The same, for a loss more than `sigma` standard deviations above the mean of the last
    `window` steps (Walsh et al. 2025)."""
    sigma: float = Field(default=6.0, gt=0)
    window: int = Field(default=128, ge=4)
    """Steps. No loss is a spike before half of them are known."""
    limit: int = Field(default=10, ge=0)
    """Of the last `window` steps so many may be skipped; one more ends the run (exit status 2)."""


class Training(Section):
    section: ClassVar[str] = "training"
    """Its name in a recipe."""

    batch_size: int = Field(default=32, ge=1)
    """Sequences in an optimizer step, on the whole cluster. Workers and micro-batches follow."""
    micro_batch_size: int = operational(16, ge=1)
    """Sequences that one worker takes through the model at once, at most."""
    optimizer: Literal["adamw", "lion", "adafactor", "muon"] = "adamw"
    """AdamW (Loshchilov & Hutter 2019); Lion (Chen et al. 2023), half its state, at a third to a
    tenth of its learning rate; Adafactor (Shazeer & Stern 2018), hardly any state; Muon (Jordan et
    al. 2024), for the matrices of layers, beside AdamW. The last two need zero.stage: 0."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak, after the warm-up. Adafactor takes it as a share of each matrix's own size."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How much of AdamW's and Lion's direction comes from the steps before; of Muon's, 0.95."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """How much of AdamW's second moment and of Lion's momentum comes from the steps before. With
    more, such as 0.999, a short training does not forget its first steps."""
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
    """`auto` is bf16 where the processors of all workers multiply in it; else fp32, but fp16 on
    GPUs with zero.stage 1, 2 or 3. Under bf16 and fp16 the optimizer keeps the weights in fp32;
    fp16 scales the loss, and skips steps that overflow. fp32 is without TF32."""
    compile: bool = False
    """torch.compile. Where a worker's compiler fails, or is missing, the model runs uncompiled, and
    a line says so; a single part that cannot be compiled is left out, and the log says so."""
    activation_checkpointing: bool = operational(False)
    """Computes each layer's activations again for the gradient instead of keeping them: much less
    memory for a third more computing."""
    zero: Zero = operational(Zero())
    deepspeed: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of DeepSpeed's own configuration, such as
    `{zero_optimization: {reduce_bucket_size: 50000000}}`."""
    base: str | None = None
    """What to start from: a folder, or a GGUF file (the extra `gguf`), which becomes a folder in
    the cache of each node once, in minutes; either may be in a Python package, as
    `package:NAME/PATH`; a model of the workspace, by its id (`model/...`) or the name of the recipe
    that made it, whose newest it then is; or a hub id. Where it was fine-tuned for other labels,
    its last layer begins anew, and for another task its head. Without it pretraining starts from
    `model` or `like`, fine-tuning from what pretraining made."""
    evaluations: int = Field(default=1, ge=1, le=1000)
    """Passes over the validation data, evenly spread, the last at the end."""
    workers: Workers = operational("auto")
    """A number; or `{min: 1, max: 4}`: training goes on without workers that are lost, and takes in
    new ones where there is room, from the last checkpoint on; or `auto`: as many as the nodes have
    room for when it starts, one a node or more (trainers/launch/allocation.py)."""
    cpus_per_worker: Cpus = operational("auto")
    """`auto` is all CPUs of a node, at most 8, divided among its workers and among trainings that
    run side by side, such as trials."""
    gpus_per_worker: float = operational(0.0, ge=0)
    """1, as a worker computes on one GPU; or a fraction, for trainings of one worker that share it,
    such as trials: each has that part of the GPU's memory. Its model is evaluated on as much."""
    peak_tflops: float | None = operational(None, gt=0)
    """What one worker can multiply, in 10^12 FLOPs a second: the metric `mfu` is a share of it. By
    default the data sheet's figure, of a GPU that raymill knows by name and in 16 bits; else it is
    measured at the start."""
    checkpoint_minutes: float = operational(5.0, gt=0)
    """Training time between checkpoints: the most work that a lost worker costs."""
    checkpoint_steps: int | None = operational(None, ge=1)
    """Steps between checkpoints, beside checkpoint_minutes: whichever comes first."""
    checkpoints_kept: int = operational(2, ge=1)
    """How many of the newest. More than one, since the newest may be damaged."""

    @model_validator(mode="after")
    def _batch_reaches_workers(self) -> Self:
        if self.batch_size * self.workers_per_group < self.most_workers:
            raise Invalid(
                "batch_size",
                f"{self.batch_size} is less than workers = {self.most_workers}; "
                "every worker needs a sequence in each step",
            )
        return self

    @model_validator(mode="after")
    def _worker_has_its_gpu(self) -> Self:
        gpus = self.gpus_per_worker
        if gpus > 1:
            raise Invalid(
                "gpus_per_worker",
                f"{gpus:g} is over 1: a worker computes on one GPU; set more workers",
            )
        if 0 < gpus < 1 and self.most_workers > 1:
            raise Invalid(
                "gpus_per_worker",
                f"{gpus:g} needs workers: 1, found {self.most_workers}: NCCL refuses two workers "
                "on one GPU; set 1",
            )
        return self

    @model_validator(mode="after")
    def _engine_can_do_it(self) -> Self:
        if self.precision == "fp16" and self.gpus_per_worker == 0:
            raise Invalid("precision", "fp16 needs gpus_per_worker of 1; CPUs take bf16")
        if self.precision == "fp16" and self.zero.stage == 0:
            raise Invalid(
                "precision", "fp16 needs zero.stage 1, 2 or 3: at 0 DeepSpeed scales no loss"
            )
        if self.optimizer in ("adafactor", "muon") and self.zero.stage > 0:
            raise Invalid(
                "optimizer",
                f"{self.optimizer} needs zero.stage: 0, found {self.zero.stage}: it works on whole "
                "matrices, which ZeRO cuts",
            )
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise Invalid(
                "decay", f"decay = {self.decay} and warmup = {self.warmup} are over 1 together"
            )
        refuse_contradictions(self.deepspeed, dict(self))
        return self

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        from trainers.corpora.reading.sources import missing_folders

        yield from missing_folders({f"{self.section}.base": self.base}, "config.json")

    def warnings(self, recipe: Recipe) -> Iterator[str]:
        workspace = Path(recipe.workspace).expanduser().absolute()
        if workspace.is_dir():  # nothing is looked up in one that is far away
            told = taken_for_hub_id(Storage(str(workspace)), self.base)
            if told:
                yield f"{self.section}.base: {told}"
        yield from self.advice

    def refuse_base(self, base: Artifact) -> None:
        """Raises UserError if training cannot start from this model of the workspace."""
        refuse_damaged(base, base.id)

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        if self.base is None:
            return super().identity()
        content = base_hash(self.base, f"{self.section}.base")
        return {**super().identity(), "base_content": content}

    @property
    def least_workers(self) -> int:
        """While `auto` is not decided, the fewest that are possible."""
        match self.workers:
            case "auto":
                return self.workers_per_group
            case Elastic():
                return self.workers.min
            case number:
                return number

    @property
    def most_workers(self) -> int:
        return self.workers.max if isinstance(self.workers, Elastic) else self.least_workers

    @property
    def worker_cpus(self) -> int:
        """Of one worker; one, while `auto` is not decided."""
        return 1 if self.cpus_per_worker == "auto" else self.cpus_per_worker

    @property
    def adapter(self) -> Adapting | None:
        """What is trained in place of all weights, if not these."""
        return None

    @property
    def advice(self) -> Iterator[str]:
        """What to tell of values that seldom do well, by `check` and before training."""
        yield from ()

    @property
    def served_by(self) -> ServedBy | None:
        """What can serve the model that is made; None of one that is only trained further."""
        return None

    @property
    def sp_size(self) -> int:
        """Workers that divide the tokens of each sequence (sequence parallelism)."""
        return 1

    @property
    def tp_size(self) -> int:
        """Workers that divide the weights of each layer (tensor parallelism)."""
        return 1

    @property
    def workers_per_group(self) -> int:
        """Workers that have the same sequences."""
        return self.sp_size * self.tp_size

    @property
    def least_dp_size(self) -> int:
        """Groups of workers with the same sequences, at least."""
        return self.least_workers // self.workers_per_group

    @property
    def worker_resources(self) -> dict[str, float]:
        """What one worker holds."""
        wanted: dict[str, float] = {"CPU": self.worker_cpus}
        if self.gpus_per_worker:
            wanted["GPU"] = self.gpus_per_worker
        return wanted

    @property
    def resources(self) -> dict[str, float]:
        """What all workers hold together, at least."""
        return {name: self.least_workers * one for name, one in self.worker_resources.items()}
