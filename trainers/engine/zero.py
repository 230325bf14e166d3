"""A training section to a DeepSpeed engine. DeepSpeed owns accumulation, clipping and ZeRO."""

import contextlib
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from cluster.errors import UserError
from trainers.engine.anomalies import drop_steps_not_finite
from trainers.engine.optimizers import optimizer
from trainers.engine.swap import swap_folder
from trainers.engine.training_config import Training
from trainers.models import build, lean_imports
from trainers.models.devices import multiplies_bf16, own_device
from trainers.parallel import tensor_parallel
from trainers.parallel.collectives import first_reason
from trainers.parallel.topology import Topology

REDUCE_BUCKET = 500_000_000
"""DeepSpeed's own default of reduce_bucket_size, in parameters."""


def rank_device(settings: Training) -> torch.device:
    """What this rank computes on. Raises UserError where a GPU is missing."""
    return own_device(settings.gpus_per_worker, int(os.environ.get("LOCAL_RANK", "0")))


def resolve_precision(settings: Training, device: torch.device) -> str:
    """What a training computes in on this device."""
    return precision_on(settings, device.type == "cuda", multiplies_bf16(device))


def precision_on(settings: Training, is_gpu: bool, has_bf16: bool) -> str:
    """`auto` is bf16 where the processor multiplies in it: without, it is emulated slowly. Else
    GPUs take fp16, if a stage of ZeRO scales the loss. Pure."""
    if settings.precision != "auto":
        return settings.precision
    if has_bf16:
        return "bf16"
    return "fp16" if is_gpu and settings.zero.stage > 0 else "fp32"


def agreed_precision(settings: Training, device: torch.device) -> str:
    """The same on every rank, also where nodes differ: bf16 if all have it. Every rank calls it."""
    own = resolve_precision(settings, device)
    return first_reason(None if own == "bf16" else own) or "bf16"


def accumulation(batch_size: int, dp_size: int, micro_batch_size: int) -> tuple[int, int]:
    """(micro-batch, micro-batches a step) of one group of ranks with the same sequences: the
    fewest that fit, evenly filled."""
    share = -(-batch_size // dp_size)
    steps = -(-share // micro_batch_size)
    return -(-share // steps), steps


def gradient_divisor(settings: Training, topology: Topology) -> int:
    """What DeepSpeed divides the sum of gradients by: the groups of ranks with the same sequences;
    but stage 3 counts ranks that divide tokens one by one (stage3.py, `__avg_scatter_grads`)."""
    return topology.dp_size * (topology.sp_size if settings.zero.stage == 3 else 1)


def reduce_bucket(settings: Training, trained: int) -> int:
    """Gradients that stages 1 to 3 reduce at once, of so many trained parameters: no more than
    there are, as DeepSpeed allocates the bucket whole, which would be 1 GB of a GPU beside an
    adapter of some MB. Pure."""
    passed: Any = settings.deepspeed.get("zero_optimization", {})
    return int(passed.get("reduce_bucket_size", min(trained, REDUCE_BUCKET)))


def config(
    settings: Training, dp_size: int, precision: str, trained: int, nvme_path: str | None = None
) -> dict[str, Any]:
    """DeepSpeed's configuration, for a model with so many trained parameters."""
    micro_batch, steps = accumulation(settings.batch_size, dp_size, settings.micro_batch_size)
    zero: dict[str, Any] = {"stage": settings.zero.stage}
    passed: Any = settings.deepspeed.get("zero_optimization", {})
    if "reduce_bucket_size" not in passed:
        zero["reduce_bucket_size"] = reduce_bucket(settings, trained)
    for name, device in (
        ("offload_optimizer", settings.zero.offload_optimizer),
        ("offload_param", settings.zero.offload_parameters),
    ):
        if device is not None:
            zero[name] = {"device": device}
        if device == "nvme":
            zero[name]["nvme_path"] = nvme_path
        is_set = "pin_memory" in passed.get(name, {})
        if device == "cpu" and settings.gpus_per_worker and not is_set:
            zero[name]["pin_memory"] = True  # from where a GPU copies by itself, and twice as fast
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": settings.gradient_clipping,
        "zero_optimization": zero,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW is fused on CPUs too
        "steps_per_print": 2**31,
    }
    if settings.tp_size > 1:
        size = settings.tp_size
        ours["tensor_parallel"] = {"autotp_size": size, "vocab_parallel_lm_head": False}
    return _merged(settings.deepspeed, ours)


def _merged(passed_on: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; they have no key in common."""
    merged = {**passed_on, **ours}
    for key in passed_on.keys() & ours.keys():
        merged[key] = _merged(passed_on[key], ours[key])
    return merged


def import_deepspeed(device: torch.device) -> Any:
    """The module, which takes over torch.distributed's process group; that must be initialized. A
    process has one type of device: DeepSpeed asks for it once."""
    os.environ["DS_ACCELERATOR"] = device.type
    deepspeed = lean_imports.deepspeed()
    deepspeed.utils.logger.setLevel(logging.WARNING)
    # Of what DeepSpeed calls; where a filter of warnings changes meanwhile, in every step again.
    warnings.filterwarnings("ignore", "`torch.distributed.* is deprecated", FutureWarning)
    if device.type == "cpu":
        # DeepSpeed compiles a shared-memory collective at its first use there, for a minute; gloo
        # moves the gradients of the models that one trains on CPUs in a few milliseconds.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False)
    return deepspeed


def engine(module: nn.Module, settings: Training, mpu: Any = None) -> Any:
    """The DeepSpeed engine around a module. Its `swap` is a context: leaving it deletes what the
    engine swapped to a disk. `mpu` tells DeepSpeed which ranks divide sequences.

    torch.distributed must be initialized. Raises UserError for keys of DeepSpeed's own that it
    refuses, for offload that cannot be, and for a model whose layers cannot be cut.
    """
    device = rank_device(settings)
    deepspeed = import_deepspeed(device)
    swap, nvme_path = contextlib.ExitStack(), None
    if settings.zero.nvme_path is not None:
        nvme_path = _swap_folder(settings, deepspeed, swap)
    if settings.tp_size > 1:
        tensor_parallel.prepare(module, settings.tp_size)
    dp_size = torch.distributed.get_world_size() // settings.workers_per_group
    precision, trained = resolve_precision(settings, device), build.trained_count(module)
    try:
        wrapped, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer(module, settings),
            config=config(settings, dp_size, precision, trained, nvme_path),
            mpu=mpu,
            dist_init_required=False,
        )
    except ValidationError as error:  # of DeepSpeed's own configuration
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{settings.section}.deepspeed: {key}: {first['msg']}") from error
    if settings.tp_size > 1:  # AutoTP's check of the first batch fails at dictionaries
        wrapped.first_dataloader_check.remove()
    if isinstance(wrapped.optimizer, torch.optim.Optimizer):
        drop_steps_not_finite(wrapped.optimizer)
    wrapped.swap = swap
    return wrapped


def _swap_folder(settings: Training, deepspeed: Any, swap: contextlib.ExitStack) -> str:
    """Raises UserError."""
    key = f"{settings.section}.zero.nvme_path"
    assert settings.zero.nvme_path is not None
    if not deepspeed.ops.__compatible_ops__["async_io"]:
        raise UserError(
            f"{key}: offload to nvme needs libaio; install it on every node (libaio-dev)"
        )
    try:
        return swap.enter_context(swap_folder(Path(settings.zero.nvme_path)))
    except OSError as error:
        raise UserError(f"{key}: {error}; set another folder") from error
