"""Which processor a model computes on: the GPU that Ray has given this process, or the CPU.

The recipe decides (`gpus_per_worker`, `serve.gpus_per_replica`), and not what a driver or a node
happens to have: a process without a share of a GPU computes on the CPU, also beside idle GPUs.
"""

import socket

import torch

from cluster.errors import UserError

CONTEXT_BYTES = 650_000_000
"""Of a GPU's memory, what a process takes beside its tensors: the CUDA context, with the kernels
that it has loaded. Seen were 426 MiB (PyTorch 2.10 for CUDA 13 on an RTX 6000 Ada:
unslothai/unsloth-zoo#1053) and 616 MiB (LMCache/LMCache#4019)."""


def own_device(gpus: float, local_rank: int = 0) -> torch.device:
    """The device of this process, which holds so much of a GPU; the CPU for none.

    A GPU becomes torch's current one, and of a fraction no more than that share of its memory is
    taken, the context included, so that processes on one GPU do not take each other's. A process
    sees its own GPU alone; a worker of a group those of all workers on its node, in the order of
    their local ranks. Raises UserError where this node's PyTorch cannot use a GPU, or a fraction of
    it has no room for tensors.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        build = torch.version.cuda or "no CUDA"
        raise UserError(
            f"a GPU is asked for, but PyTorch {torch.__version__} (built for {build}) on node "
            f"{socket.gethostname()} sees none; install a build for CUDA there that goes with its "
            "driver, or set gpus_per_worker or serve.gpus_per_replica to 0"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.init()  # else what is asked of its allocator finds none
    torch.cuda.set_device(device)
    if gpus < 1:
        memory = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(share_for_tensors(gpus, memory), device)
    return device


def share_for_tensors(gpus: float, memory: int) -> float:
    """Of a GPU with so many bytes, the share that is left for tensors to a process that holds so
    much of it: torch's limit does not count the context. Raises UserError where none is. Pure."""
    share = gpus - CONTEXT_BYTES / memory
    if share <= 0:
        raise UserError(
            f"{gpus:g} of a GPU is asked for: of {memory / 1e9:.3g} GB that is no more than the "
            f"{CONTEXT_BYTES / 1e9:g} GB that CUDA takes in every process; set gpus_per_worker or "
            "serve.gpus_per_replica higher"
        )
    return share


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the processor itself does: where it is emulated, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
