"""A training section to a DeepSpeed engine. DeepSpeed owns accumulation, clipping and ZeRO."""

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from cluster.errors import UserError
from trainers.engine.anomalies import drop_steps_not_finite
from trainers.engine.deepspeed_config import Zero
from trainers.engine.optimizers import optimizer
from trainers.engine.swap import Swap
from trainers.engine.training_config import Training
from trainers.models import lean_imports
from trainers.parallel import tensor_parallel
from trainers.parallel.topology import Topology


def resolve_precision(precision: str) -> str:
    """bf16 or fp32, for `auto`: bf16 where the processor multiplies in it (CPUs emulate it
    slowly)."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def accumulation(batch_size: int, dp_size: int, micro_batch_size: int) -> tuple[int, int]:
    """(micro-batch, micro-batches a step) of one group of ranks with the same sequences: the
    fewest that fit, evenly filled."""
    share = -(-batch_size // dp_size)
    steps = -(-share // micro_batch_size)
    return -(-share // steps), steps


def averaged_over(settings: Training, topology: Topology) -> int:
    """What DeepSpeed divides the sum of gradients by: the groups of ranks with the same sequences;
    but stage 3 counts ranks that divide tokens one by one (stage3.py, `__avg_scatter_grads`)."""
    return topology.dp_size * (topology.sp_size if settings.zero.stage == 3 else 1)


def config(settings: Training, dp_size: int, precision: str) -> dict[str, Any]:
    """DeepSpeed's configuration. Pure."""
    micro_batch, steps = accumulation(settings.batch_size, dp_size, settings.micro_batch_size)
    made = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": settings.gradient_clipping,
        "zero_optimization": _zero_optimization(settings.zero),
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW is fused on CPUs too
        "steps_per_print": 2**31,
    }
    if settings.tp_size > 1:
        made["tensor_parallel"] = {
            "autotp_size": settings.tp_size,
            "vocab_parallel_lm_head": False,
        }
    return _joined(settings.deepspeed, made)


def _zero_optimization(zero: Zero) -> dict[str, Any]:
    made: dict[str, Any] = {"stage": zero.stage}
    for name, device in (
        ("offload_optimizer", zero.offload_optimizer),
        ("offload_param", zero.offload_parameters),
    ):
        if device is not None:
            made[name] = {"device": device}
        if device == "nvme":
            made[name]["nvme_path"] = zero.nvme_path
    return made


def _joined(passed: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; they have no key in common."""
    joined = {**passed, **made}
    for key in passed.keys() & made.keys():
        joined[key] = _joined(passed[key], made[key])
    return joined


def joined_deepspeed() -> Any:
    """The module, with torch.distributed's process group, which must be initialized, as its own."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    deepspeed = lean_imports.deepspeed()
    deepspeed.utils.logger.setLevel(logging.WARNING)
    # DeepSpeed compiles a shared-memory collective at its first use on a CPU, for a minute; gloo
    # moves the gradients of the models that one trains on CPUs in a few milliseconds.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False)
    return deepspeed


def engine(module: nn.Module, settings: Training, mpu: Any = None) -> Any:
    """The DeepSpeed engine around a module. torch.distributed must be initialized. `mpu` tells
    DeepSpeed which workers share what, where they share more than data.

    Raises UserError for keys of DeepSpeed's own that it refuses, for offload that cannot be, and
    for a model whose layers cannot be cut as the settings say.
    """
    deepspeed = joined_deepspeed()
    section = settings.section
    swap = None
    if settings.zero.nvme_path is not None:
        swap = _swap(settings.zero.nvme_path, f"{section}.zero.nvme_path")
        zero = settings.zero.model_copy(update={"nvme_path": swap.folder})
        settings = settings.model_copy(update={"zero": zero})
    if settings.tp_size > 1:
        tensor_parallel.prepare(module, settings.tp_size)
    dp_size = torch.distributed.get_world_size() // settings.workers_per_group
    try:
        made, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer(module, settings),
            config=config(settings, dp_size, resolve_precision(settings.precision)),
            mpu=mpu,
            dist_init_required=False,
        )
    except ValidationError as error:  # of DeepSpeed's own configuration
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{section}.deepspeed: {key}: {first['msg']}") from error
    if settings.tp_size > 1:  # AutoTP's check of the first batch fails at dictionaries
        made.first_dataloader_check.remove()
    if isinstance(made.optimizer, torch.optim.Optimizer):
        drop_steps_not_finite(made.optimizer)
    made.swap = swap
    return made


def swapping(engine: Any) -> contextlib.AbstractContextManager[Any]:
    """Around the engine's use: behind it, what it swapped to a disk is gone."""
    return contextlib.closing(engine.swap) if engine.swap else contextlib.nullcontext()


def _swap(disk: str, key: str) -> Swap:
    """Raises UserError."""
    import deepspeed

    if not deepspeed.ops.__compatible_ops__["async_io"]:
        raise UserError(
            f"{key}: offload to nvme needs libaio; install it on every node (libaio-dev)"
        )
    try:
        return Swap(disk)
    except OSError as error:
        raise UserError(f"{key}: {error}; set another folder") from error
