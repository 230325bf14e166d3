"""The plan of a recipe: what its trainings need of memory and time, before any is begun."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import torch

from cluster.errors import UserError
from cluster.recipe.section import Recipe
from cluster.runs import pipeline
from cluster.store import artifacts
from cluster.store.artifacts import BASE, Artifact
from cluster.store.storage import Storage
from trainers.corpora.feeding import index
from trainers.corpora.tokens.pack import read_arrow
from trainers.engine import schedule, zero
from trainers.engine.accelerators import ACCELERATORS, Hardware
from trainers.engine.training_config import Training
from trainers.launch.allocation import allocated
from trainers.methods.config import ServedBy
from trainers.models.devices import CONTEXT_BYTES, multiplies_bf16
from trainers.planning import states
from trainers.planning.hardware import NOT_GIVEN, Given, hardware
from trainers.planning.measures import Measures, data_stage, measure

SECTIONS = ("pretrain", "finetune")
FRAMEWORK_BYTES = {"cpu": 0.64e9, "gpu": float(CONTEXT_BYTES)}
"""A worker before it has a model: Python, Ray, PyTorch, Transformers and DeepSpeed as measured on
CPUs; on a GPU the CUDA context, also where a worker holds a fraction."""


def plan(recipe: Recipe, storage: Storage, given: Given, mfu: float) -> dict[str, Any]:
    """By section. `given` says of the hardware what the user does, of the GPUs where only some of
    the sections hold any; `mfu` is the share of the peak that training is assumed to reach."""
    sections = [name for name in SECTIONS if getattr(recipe, name) is not None]
    if not sections:
        raise UserError(f"{recipe.name}: no section pretrain or finetune; there is nothing to plan")
    planned = pipeline.plan(recipe, storage)
    done = {item.stage.name: item.done for item in planned}
    bases = {
        item.stage.name: {BASE: artifacts.find(storage, item.parents[BASE])}
        for item in planned
        if BASE in item.parents
    }
    plans = {}
    holds_gpus = any(getattr(recipe, name).gpus_per_worker for name in sections)
    for name in sections:
        gpus = getattr(recipe, name).gpus_per_worker
        known = given if gpus or not holds_gpus else NOT_GIVEN
        if not hardware(1, *known, gpus).is_gpu:
            machine = {"CPU": float(recipe.cluster.cpus or os.cpu_count() or 1)}
            recipe = allocated(recipe, name, [machine])
        units = hardware(getattr(recipe, name).least_workers, *known, gpus)
        plans[name] = _section(recipe, name, {**done, **bases.get(name, {})}, units, mfu)
    return plans


def _section(
    recipe: Recipe,
    name: str,
    done: Mapping[str, Artifact | None],
    units: Hardware,
    mfu: float,
) -> dict[str, Any]:
    settings: Training = getattr(recipe, name)
    if settings.tp_size > 1:
        raise UserError(
            f"{name}.tensor_parallel: plan does not know yet what a worker holds of layers "
            f"that are cut; --set {name}.tensor_parallel=1 "
            f"--set {name}.workers={settings.least_dp_size} tells what those hold together that "
            "share them"
        )
    has_bf16 = units.has_bf16 if units.is_gpu else multiplies_bf16(torch.device("cpu"))
    precision = zero.precision_on(settings, units.is_gpu, has_bf16)
    measures = measure(recipe, name, done, precision, "cuda" if units.is_gpu else "cpu")
    samples = _samples(name, done[data_stage(name, done)])
    micro_batch, micro_batches = zero.accumulation(
        settings.batch_size, settings.least_dp_size, settings.micro_batch_size
    )
    stages = {
        str(other.zero.stage): _memory(other, measures, precision, units)
        for other in _stages(settings)
    }
    return {
        "hardware": dataclasses.asdict(units),
        "mfu": mfu,
        "parameters": measures.parameters,
        "method": settings.adapter.name if settings.adapter else "full",
        "trained_parameters": measures.trained,
        "served_by": served_by(settings, measures.encodes_and_decodes),
        "precision": precision,
        "workers": settings.least_workers,
        "cpus_per_worker": settings.worker_cpus,
        "gpus_per_worker": settings.gpus_per_worker,
        "micro_batch_size": micro_batch,
        "micro_batches": micro_batches,
        "stage": settings.zero.stage,
        "stages": stages,
        "room": _with_room(settings, stages) if units.is_gpu else [],
        "follows": data_stage(name, done),
        **_time(settings, measures, samples, units, mfu),
    }


def served_by(settings: Training, encodes_and_decodes: bool) -> ServedBy | None:
    """What can serve the model: vLLM has no encoder-decoders of texts, such as T5. Pure."""
    known = settings.served_by
    is_for_vllm = known in ("vllm_adapter", "vllm_merged")
    return "transformers" if is_for_vllm and encodes_and_decodes else known


def _with_room(settings: Training, stages: Mapping[str, Any]) -> list[str]:
    """Accelerators whose memory is enough as the recipe stands, or a worker's share of it."""
    peak = stages[str(settings.zero.stage)]["peak"]
    share = settings.gpus_per_worker or 1.0
    return [name for name, one in ACCELERATORS.items() if peak <= one.memory_gb * 1e9 * share]


def _stages(settings: Training) -> list[Training]:
    """The settings with every ZeRO stage that goes with them."""
    keys = settings.model_dump(exclude_unset=True)
    with_stage = []
    for stage in range(4):
        try:
            zero = {**keys.get("zero", {}), "stage": stage}
            with_stage.append(type(settings).model_validate({**keys, "zero": zero}))
        except ValueError:  # the recipe's own rules: this optimizer or offload has no such stage
            continue
    return with_stage


def _memory(
    settings: Training, measures: Measures, precision: str, units: Hardware
) -> dict[str, Any]:
    """Of one worker at one ZeRO stage, in bytes."""
    share = -(-settings.batch_size // settings.least_dp_size)
    micro_batch, _ = zero.accumulation(
        settings.batch_size, settings.least_dp_size, settings.micro_batch_size
    )
    moment, memory = peak(settings, measures, precision, micro_batch, units.is_gpu)
    limit = units.memory_gb * 1e9
    sizes = {-(-share // count) for count in range(1, share + 1)}
    fitting = [
        size
        for size in sizes
        if peak(settings, measures, precision, size, units.is_gpu)[1].total <= limit
    ]
    return {
        **{part: round(value) for part, value in dataclasses.asdict(memory).items()},
        "peak": round(memory.total),
        "at": moment,
        "fits": memory.total <= limit,
        "largest_micro_batch": max(fitting, default=0),
    }


def peak(
    settings: Training, measures: Measures, precision: str, micro_batch: int, on_gpu: bool
) -> tuple[str, states.Memory]:
    """The moment at which a worker holds most, and what it then holds; of its node's memory, what
    it holds of that at any moment."""
    share = -(-settings.batch_size // settings.least_dp_size)
    engine = states.Engine.of(
        settings,
        measures.trained,
        bytes_each=4 if precision == "fp32" else 2,
        micro_batches=-(-share // micro_batch),
        on_gpu=on_gpu,
        frozen=measures.parameters if settings.adapter else 0,
        rounded=measures.rounded,
        averaged=measures.averaged,
    )
    activations = measures.activations(micro_batch / settings.workers_per_group)
    by_moment = states.moments(engine, activations, measures.gradients)
    name, memory = max(by_moment.items(), key=lambda item: item[1].total)
    host = max(one.host for one in by_moment.values())
    framework = memory.framework + FRAMEWORK_BYTES["gpu" if on_gpu else "cpu"]
    return name, dataclasses.replace(memory, framework=framework, host=host)


def _time(
    settings: Training, measures: Measures, samples: int | None, units: Hardware, mfu: float
) -> dict[str, Any]:
    """Steps, hours and dollars; None while the number of samples is not known."""
    if samples is None:
        return {"samples": None, "steps": None, "flops": None, "hours": None, "cost": None}
    steps = schedule.steps(settings, samples)
    flops = steps * settings.batch_size * measures.flops_each
    count = settings.least_workers
    hours = flops / (mfu * units.peak_tflops * 1e12 * count) / 3600
    if settings.max_minutes is not None:
        hours = min(hours, settings.max_minutes / 60)
    cost = None if units.price is None else hours * count * units.price
    return {"samples": samples, "steps": steps, "flops": flops, "hours": hours, "cost": cost}


def _samples(section: str, data: Artifact | None) -> int | None:
    """Of an epoch, where the stage before was run."""
    if data is None:
        return None
    if section == "pretrain":
        return sum(index.read(data).split("train").values())
    return read_arrow(data.path / "train.arrow").num_rows
