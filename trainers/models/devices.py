"""Which processor a model computes on: the GPU that Ray has given this process, or the CPU.

The recipe decides (`gpus_per_worker`, `serve.gpus_per_replica`), and not what a driver or a node
happens to have: a process without a share of a GPU computes on the CPU, also beside idle GPUs.
"""

import socket

import torch

from cluster.errors import UserError


def own_device(gpus: float, local_rank: int = 0) -> torch.device:
    """The device of this process, which holds so much of a GPU; the CPU for none.

    A GPU becomes torch's current one, and of a fraction no more than that share of its memory is
    taken, so that processes on one GPU do not take each other's. A process sees its own GPU alone;
    a worker of a group those of all workers on its node, in the order of their local ranks.
    Raises UserError where this node's PyTorch cannot use a GPU.
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
        torch.cuda.set_per_process_memory_fraction(gpus, device)
    return device


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the processor itself does: where it is emulated, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
