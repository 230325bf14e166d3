"""What DeepSpeed holds for a training besides activations, at each moment of a step. Pure.

ZeRO's own account (Rajbhandari et al. 2020, 3.1) has, for a weight under mixed precision, 2 bytes
of it, 2 of its gradient, and 12 of its fp32 copy and AdamW's moments, which workers share. The
engine holds more at its worst moments, as read in DeepSpeed 0.19 (`stage_1_and_2.py`, `stage3.py`,
`unfused_optimizer.py`), and memory must suffice for those:

- gradients are reduced in buckets, which hold them once more;
- the step makes fp32 gradients while the others are there;
- in fp32, stages 1 and 2 keep a second copy of the weights, which the optimizer works on;
- stage 3 gathers weights for the passes, and frees none that is needed again within
  `stage3_max_reuse_distance`: of a model under a billion parameters, none at all.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainers.engine.training_config import Training
from trainers.engine.zero import reduce_bucket
from trainers.methods.config import Lora
from trainers.models.export import FILE_BYTES

FP32 = 4
STATES = {"adamw": 2, "lion": 1, "adafactor": 0, "muon": 2}
"""fp32 numbers that an optimizer keeps for a weight. Adafactor's, a row and a column of each
matrix, are too few to count; Muon keeps half as many for the matrices of layers."""
STAGE_0_BUCKET = 500_000_000
"""Parameters whose gradients stage 0 reduces at once."""
LIVE = 1_000_000_000
"""DeepSpeed's own stage3_max_live_parameters."""

ROUNDED_BITS = {4: 4.127, 8: 8.0}
"""Of a weight that a base has in so many bits; NF4 has scales, which are rounded too (Dettmers et
al. 2023, section 3)."""

PLAIN_PROCESS = 0.59e9
"""Of the process that reads an adapter at its export: Python, PyTorch, Transformers and PEFT, as
measured on CPUs."""

HEAP = 1.45
"""What a CPU's process keeps of its activations, of their peak. The C library's heap takes what is
under 128 MiB (cluster/session.py), grows in the gaps between what lives on, and does not shrink;
states and buckets come on top. From 1.2 to 1.7 in the trainings of `tests/bench/memory.py`, before
checkpoints, with all over 32 MiB outside of the heap; its last results say how it fits now."""
HEAP_BESIDE_FROZEN = 2.0
"""The same of a training that leaves a base frozen: an adapter's gradients, states and checkpoint
are too small to fill the gaps. By the library's own count (mallinfo2) 2.8 of a padded Llama in fp32
and 2.1 of a packed one at stage 3, and by its memory 1.6 at stage 2; this is between them, and
`plan_error` says how it fits."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one worker at one moment."""

    weights: float = 0
    """As the model computes with them."""
    gradients: float = 0
    optimizer: float = 0
    """Its state, and the fp32 weights that it works on."""
    buffers: float = 0
    """Buckets, what is gathered, and copies that the moment needs."""
    activations: float = 0
    """With temporaries and the batch; on a CPU with what the heap keeps of them."""
    checkpoint: float = 0
    """A copy of fp32 weights and optimizer state, which is written while training goes on."""
    framework: float = 0
    host: float = 0
    """In the node's memory, beside an accelerator's own: what is offloaded, and the checkpoint."""

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self)) - self.host


@dataclasses.dataclass(frozen=True)
class Engine:
    """What the states of a training depend on."""

    parameters: int
    bytes_each: int
    """Of a weight in the passes, and of its gradient."""
    states: int
    """fp32 numbers that the optimizer keeps for a weight."""
    stage: int
    workers: int
    micro_batches: int
    """Of a worker in a step."""
    bucket: int
    live: int
    """Parameters that stage 3 has whole, at most."""
    is_offloaded: bool
    """Whether the optimizer is in the node's memory; on CPUs that is the model's too."""
    are_weights_offloaded: bool
    fills_buckets: bool
    """Whether memory is taken by what is written, as on CPUs, or by what is allocated."""
    frozen: int = 0
    """Weights beside those that are trained, which alone are `parameters`."""
    frozen_bytes: float = 0.0
    """Of all of these, as the model computes with them."""
    averaged: int = 0
    """Trained weights of which every worker keeps two averages in fp32 (methods/rank_budget.py)."""

    @classmethod
    def of(
        cls,
        settings: Training,
        parameters: int,
        bytes_each: int,
        micro_batches: int,
        on_gpu: bool,
        frozen: int = 0,
        rounded: int = 0,
        averaged: int = 0,
    ) -> "Engine":
        """`rounded` are those of the frozen weights that a base in few bits has so."""
        bits = settings.adapter.base_bits if isinstance(settings.adapter, Lora) else None
        rounded_bytes = rounded * (ROUNDED_BITS[bits] / 8 if bits else bytes_each)
        passed: Any = settings.deepspeed.get("zero_optimization", {})
        return cls(
            parameters,
            bytes_each,
            STATES[settings.optimizer],
            settings.zero.stage,
            settings.least_workers,
            micro_batches,
            reduce_bucket(settings, parameters),
            int(passed.get("stage3_max_live_parameters", LIVE)),
            is_offloaded=settings.zero.offload_optimizer is not None,
            are_weights_offloaded=settings.zero.offload_parameters is not None,
            fills_buckets=not on_gpu,
            frozen=frozen,
            frozen_bytes=(frozen - rounded) * bytes_each + rounded_bytes,
            averaged=averaged,
        )

    @property
    def is_mixed(self) -> bool:
        return self.bytes_each < FP32

    @property
    def share(self) -> float:
        """Of the parameters, what one worker updates."""
        return self.parameters / self.workers if self.stage else self.parameters

    @property
    def own_gradients(self) -> float:
        """Of the weights that one worker updates."""
        return self.share * self.bytes_each

    @property
    def gradients(self) -> float:
        """Of all weights."""
        return self.parameters * self.bytes_each

    @property
    def filled(self) -> float:
        """Gradients that are reduced at once."""
        bucket = STAGE_0_BUCKET if self.stage == 0 else self.bucket
        return min(bucket, self.parameters) * self.bytes_each

    @property
    def bucketed(self) -> float:
        """A bucket of gradients, from stage 1 on."""
        return self.filled if self.fills_buckets else float(self.bucket * self.bytes_each)

    @property
    def averages(self) -> float:
        """In buffers of the model."""
        return float(2 * FP32 * self.averaged)

    @property
    def checkpoint(self) -> float:
        """The first worker's part, which has the averages."""
        return (1 + self.states) * FP32 * self.parameters / self.workers + self.averages

    @property
    def file(self) -> float:
        """Weights in fp32 that an export puts together at a time."""
        return float(min(FP32 * self.parameters, FILE_BYTES))

    @property
    def gathered(self) -> float:
        """Whole weights, of stage 3."""
        return min(self.parameters, self.live) * self.bytes_each if self.stage == 3 else 0.0


def resident(engine: Engine) -> Memory:
    """What is there all the time."""
    masters = engine.is_mixed or engine.stage in (1, 2) or engine.is_offloaded
    optimizer = (masters + engine.states) * FP32 * engine.share
    if engine.is_offloaded:  # with fp32 gradients, and a copy of the weights on their way
        optimizer += (FP32 + engine.bytes_each) * engine.share
    memory = Memory(weights=engine.gradients, optimizer=optimizer, checkpoint=engine.checkpoint)
    if engine.stage == 3:
        own = engine.own_gradients
        memory = dataclasses.replace(memory, weights=own, gradients=own, buffers=engine.bucketed)
    if engine.fills_buckets:  # on a CPU all is in the node's memory
        return memory
    memory = dataclasses.replace(memory, checkpoint=0.0, host=engine.checkpoint)
    if engine.is_offloaded:
        memory = dataclasses.replace(memory, optimizer=0.0, host=memory.host + optimizer)
    if engine.are_weights_offloaded:
        memory = dataclasses.replace(memory, weights=0.0, host=memory.host + memory.weights)
    return memory


def passing(engine: Engine, activations: Any, gradients: Any) -> Memory:
    """The worst of the forward and backward passes; from a trace of one micro-batch."""
    memory, kept, buffers = resident(engine), np.zeros_like(gradients), engine.gathered
    is_first = engine.micro_batches == 1
    if engine.stage <= 1:
        kept = gradients if is_first else np.full_like(gradients, engine.gradients)
    elif engine.stage == 2:  # its own of those before; these go into the bucket as they come
        kept = kept if is_first else np.full_like(gradients, engine.own_gradients)
        kept = kept + gradients if engine.fills_buckets else kept
    if engine.stage in (1, 2) and not engine.fills_buckets:  # stage 3's is always there
        buffers = engine.bucketed
    worst = (activations + kept).argmax()
    return dataclasses.replace(
        memory,
        gradients=memory.gradients + float(kept[worst]),
        buffers=memory.buffers + buffers,
        activations=float(activations[worst]),
    )


def reducing(engine: Engine) -> Memory:
    """After the backward pass, when gradients are exchanged."""
    memory, own = resident(engine), engine.own_gradients
    match engine.stage:
        case 0:  # one flat copy of them
            return dataclasses.replace(memory, gradients=engine.gradients, buffers=engine.filled)
        case 1:  # one after the other into the bucket, and what is the worker's own out of it
            beside = max(0.0, engine.gradients - engine.filled)
            return dataclasses.replace(memory, gradients=own + beside, buffers=engine.bucketed)
        case 2:
            flat = engine.filled if engine.workers > 1 else 0.0
            return dataclasses.replace(memory, gradients=own, buffers=engine.bucketed + flat)
        case _:  # in one flat copy, and gloo scatters from a second
            flat = engine.filled * (2 if engine.fills_buckets else 1)
            return dataclasses.replace(memory, buffers=memory.buffers + engine.gathered + flat)


def stepping(engine: Engine) -> Memory:
    """In the optimizer's step."""
    memory = resident(engine)
    fp32 = FP32 * engine.share if engine.is_mixed and not engine.is_offloaded else 0.0
    moved = FP32 * engine.share if engine.states == 1 else 0.0  # Lion's direction
    match engine.stage:
        case 0:
            made = engine.gradients + fp32
        case 1 | 2:  # as a list, flat, and in fp32
            made = 2 * engine.own_gradients + fp32 if not engine.is_offloaded else 0.0
        case _:
            made = memory.gradients + fp32
    return dataclasses.replace(memory, gradients=made, buffers=memory.buffers + moved)


def moments(engine: Engine, activations: Any, gradients: Any) -> Mapping[str, Memory]:
    """By name. `activations` and `gradients` are a trace of a micro-batch."""
    by_moment = {
        "passes": passing(engine, activations, gradients),
        "reduce": reducing(engine),
        "step": stepping(engine),
        "export": _exporting(engine),
    }
    if engine.fills_buckets:
        for name, kept in _kept_by_heap(engine, by_moment, float(activations.max())).items():
            memory = by_moment[name]
            by_moment[name] = dataclasses.replace(memory, activations=memory.activations + kept)
    by_moment = {name: _with_frozen(engine, name, memory) for name, memory in by_moment.items()}
    return {"build": _building(engine), **by_moment}


def _building(engine: Engine) -> Memory:
    """In fp32 on the CPU, then cast and moved; whole, before it is cut."""
    whole = float(FP32 * (engine.parameters + engine.frozen))
    if engine.fills_buckets:
        return Memory(weights=whole)
    return Memory(weights=engine.gradients + engine.frozen_bytes, host=whole)


def _with_frozen(engine: Engine, moment: str, memory: Memory) -> Memory:
    """The weights of a base, and averages, beside what is trained of an adapter: stage 3 cuts the
    base, and has whole weights for the passes. At the export another process reads it in fp32."""
    is_cut = engine.stage == 3
    weights = engine.frozen_bytes / (engine.workers if is_cut else 1)
    gathered = min(engine.frozen, engine.live) * engine.bytes_each if is_cut else 0.0
    memory = dataclasses.replace(
        memory, weights=memory.weights + weights, buffers=memory.buffers + engine.averages
    )
    if moment in ("passes", "reduce", "export"):  # behind an evaluation, which frees none
        memory = dataclasses.replace(memory, buffers=memory.buffers + gathered)
    if moment != "export" or not engine.frozen:
        return memory
    read = FP32 * engine.frozen
    if engine.fills_buckets:
        buffers = memory.buffers + read
        return dataclasses.replace(memory, buffers=buffers, framework=PLAIN_PROCESS)
    return dataclasses.replace(memory, host=memory.host + read + PLAIN_PROCESS)


def _exporting(engine: Engine) -> Memory:
    """When weights are put together in fp32, a file of them at a time; the first worker writes. The
    weights that the evaluation before it gathered are still there."""
    memory = resident(engine)
    memory = dataclasses.replace(memory, buffers=memory.buffers + engine.gathered)
    if engine.fills_buckets:
        return dataclasses.replace(memory, buffers=memory.buffers + engine.file, checkpoint=0.0)
    return dataclasses.replace(memory, host=memory.host - engine.checkpoint + engine.file)


def _kept_by_heap(
    engine: Engine, by_moment: Mapping[str, Memory], activations: float
) -> dict[str, float]:
    """Bytes by moment, beside the activations that are there. Gradients are in the heap too, while
    no bucket has them; a checkpoint's copies and an export's weights fill its gaps."""
    unbucketed = {0: ("passes", "reduce", "step"), 1: ("passes",)}.get(engine.stage, ())
    passes = by_moment["passes"]
    peak = passes.activations + passes.gradients if unbucketed else activations
    kept_of_peak = HEAP_BESIDE_FROZEN if engine.frozen else HEAP
    heap = max(kept_of_peak * peak, peak + engine.checkpoint)
    kept = {}
    for name, memory in by_moment.items():
        filled = memory.activations + memory.checkpoint
        filled += memory.gradients if name in unbucketed else 0.0
        filled += engine.file if name == "export" else 0.0
        kept[name] = max(0.0, heap - filled)
    return kept
