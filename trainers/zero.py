"""A training section to a DeepSpeed engine. DeepSpeed owns accumulation, clipping and ZeRO."""

import logging
import os
from typing import Any

import torch
from torch import nn

from trainers.config import Training


def resolve_precision(precision: str) -> str:
    """bf16 or fp32, for `auto`: bf16 where the processor multiplies in it (CPUs emulate it
    slowly)."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def accumulation(batch_size: int, workers: int, micro_batch_size: int) -> tuple[int, int]:
    """(micro-batch, micro-batches a step) of one worker: the fewest that fit, evenly filled.
    Pure."""
    share = -(-batch_size // workers)
    steps = -(-share // micro_batch_size)
    return -(-share // steps), steps


def config(settings: Training, workers: int, precision: str) -> dict[str, Any]:
    """DeepSpeed's configuration. Pure."""
    micro_batch, steps = accumulation(settings.batch_size, workers, settings.micro_batch_size)
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": settings.gradient_clipping,
        "zero_optimization": {"stage": settings.zero.stage},
        "bf16": {"enabled": precision == "bf16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def optimizer(module: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); norms, biases and other vectors do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim < 2],
            "weight_decay": 0.0,
        },
    ]
    # beta2 0.98 instead of 0.999: with few steps the second moment must forget the first ones.
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=True
    )


def engine(module: nn.Module, settings: Training) -> Any:
    """The DeepSpeed engine around a module. torch.distributed must be initialized."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # DeepSpeed compiles a shared-memory collective at its first use on a CPU, for a minute; gloo
    # moves the gradients of the models that one trains on CPUs in a few milliseconds.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    workers = torch.distributed.get_world_size()
    made, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer(module, settings),
        config=config(settings, workers, resolve_precision(settings.precision)),
        dist_init_required=False,
    )
    return made
