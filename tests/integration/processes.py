"""Worlds of processes that share one import of torch, DeepSpeed and Transformers: for each of them
it would take longer than its trainings do."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

multiprocessing.set_forkserver_preload(
    [f"tests.integration.{name}" for name in ("relays", "worlds", "adapted", "frozen")]
)


def run(function: Callable[..., None], arguments: tuple[Any, ...], number: int) -> None:
    """`function(process, *arguments)` in so many processes. Raises what one of them raised."""
    torch.multiprocessing.start_processes(
        function, arguments, nprocs=number, start_method="forkserver"
    )
