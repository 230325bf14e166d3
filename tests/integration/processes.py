"""Worlds of processes that share one import of torch, DeepSpeed and Transformers: for each of them
it would take longer than its trainings do."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

from trainers.methods import saving

multiprocessing.set_forkserver_preload(
    [f"tests.integration.{name}" for name in ("relays", "worlds", "adapted", "frozen")]
)


def gate_in_own_process() -> None:
    """The gate of an adapter where it was trained: a process for each would take longer than all
    trainings. That it may be one, the test of an adapter by the command shows."""
    saving.call_in_plain_process = lambda function, *arguments: function(*arguments)


def run(function: Callable[..., None], arguments: tuple[Any, ...], number: int) -> None:
    """`function(process, *arguments)` in so many processes. Raises what one of them raised."""
    torch.multiprocessing.start_processes(
        function, arguments, nprocs=number, start_method="forkserver"
    )
