"""What of the weights and the optimizer's state a rank holds, under each of ZeRO's stages.

ZeRO lays the parameters end to end and cuts the row into a piece for each rank, otherwise in each
stage and at each number of workers. Here the pieces are taken apart by parameter, so that any
engine finds what it holds in what any other engine held. (DeepSpeed's own universal format knows
AdamW alone, does not go from stage 3 to another one, and is made by a conversion of all files.)
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainers.checkpoints.parts import Columns
from trainers.parallel.tensor_parallel import WeightSlice, slice_of


@dataclasses.dataclass(frozen=True)
class Held:
    """A stretch of one parameter that this rank's optimizer moves."""

    name: str
    start: int
    """Where it begins, in the flattened parameter; or in its flattened `columns`."""
    elements: int
    row: Tensor
    """The optimizer's own tensor, fp32, in which it lies: a parameter, or a rank's piece of many.
    The optimizer keeps its state by it."""
    offset: int
    """Where it lies, in the flattened row."""
    columns: Columns | None = None
    """Of a matrix whose columns several workers share, this worker's."""
    is_copy: bool = False
    """Whether a neighbour that shares the weights of other layers holds it too, and writes it."""

    def within(self, tensor: Tensor) -> Tensor:
        """The stretch of a tensor that is shaped like the row; a view."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.elements)


def held(engine: Any, writes: bool = False) -> Iterator[Held]:
    """All that this rank holds. One that is `writes` must be used before the next is taken: then it
    is passed on to the weights that the model computes with."""
    cuts = _cuts(engine)
    is_copy = any(one.tp_rank for one in cuts.values())
    for one in _as_cut(engine, writes):
        found = cuts.get(one.name)
        if found is None:
            yield dataclasses.replace(one, is_copy=is_copy)
        elif found.dim == 0:  # a stretch of the whole as well
            inner = math.prod(found.shape[1:])
            yield dataclasses.replace(one, start=found.begin * inner + one.start)
        else:
            columns = Columns(found.begin, found.end, found.shape[1])
            yield dataclasses.replace(one, columns=columns)


def _cuts(engine: Any) -> dict[str, WeightSlice]:
    """Those parameters whose weights several workers share, by name."""
    found = {name: slice_of(parameter) for parameter, name in engine.param_names.items()}
    return {name: one for name, one in found.items() if one is not None}


def tensor_parallel(engine: Any) -> int:
    """How many workers share the weights of a layer."""
    return max((one.tp_size for one in _cuts(engine).values()), default=1)


def _as_cut(engine: Any, writes: bool) -> Iterator[Held]:
    """Places are those in the parameter as this worker has it."""
    match engine.zero_optimization_stage():
        case 3:
            yield from _of_stage_3(engine, writes)
        case 1 | 2:
            yield from _of_stages_1_and_2(engine, writes)
        case _:
            yield from _of_stage_0(engine, writes)


def _of_stage_0(engine: Any, writes: bool) -> Iterator[Held]:
    """Every rank holds all: under fp32 the parameters themselves, under bf16 copies of them."""
    names = engine.param_names
    if engine.optimizer is engine.basic_optimizer:
        for group in engine.optimizer.param_groups:
            for parameter in group["params"]:
                yield Held(names[parameter], 0, parameter.numel(), parameter, 0)
        return
    for low, high in zip(engine.optimizer.fp16_groups, engine.optimizer.fp32_groups, strict=True):
        for parameter, row in zip(low, high, strict=True):
            yield Held(names[parameter], 0, row.numel(), row, 0)
            if writes:
                parameter.data.copy_(row.data)


def _of_stages_1_and_2(engine: Any, writes: bool) -> Iterator[Held]:
    groups = engine.basic_optimizer.param_groups
    for parameter, name in engine.param_names.items():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None:  # else other ranks hold it, or it is not trained
            (row,) = groups[mapping.param_group_index]["params"]
            of_parameter, of_row = mapping.lp_fragment_address, mapping.hp_fragment_address
            yield Held(name, of_parameter.start, of_row.numel, row, of_row.start)
    if writes:
        engine.optimizer.update_lp_params()


def _of_stage_3(engine: Any, writes: bool) -> Iterator[Held]:
    optimizer = engine.optimizer
    if writes:
        optimizer.checkpoint_event_prologue()  # all parameters are cut
    for number, group in enumerate(optimizer.fp16_groups):
        swapped = optimizer._swappable_optimizer_subgroup(number)
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_in(number)
        row, offset = optimizer.fp32_partitioned_groups_flat[number], 0
        for parameter in group:
            share, rank = parameter.partition_numel(), dist.get_rank(parameter.ds_process_group)
            elements = min(share, parameter.ds_numel - rank * share)  # the last share is padded
            if elements > 0:
                name = engine.param_names[parameter]
                yield Held(name, rank * share, elements, row, offset)
            offset += share
        if writes:
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if swapped and writes:
            optimizer._optimizer_states_and_gradient_swap_out(number)
        elif swapped:
            optimizer._release_swap_buffers(number)
    if writes:
        optimizer.checkpoint_event_epilogue()


WEIGHT, BUFFER = "weight", "buffer"
"""Kinds of tensors in a checkpoint; the others are the optimizer's, by its names."""


def copied(engine: Any) -> dict[tuple[str, int, str], Tensor]:
    """This rank's part of a checkpoint, in memory of its own: (kind, start, name) to tensor. What
    has an element for each of the stretch is of one dimension, and nothing else is. What all ranks
    hold is shared out among them."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    parts = tensor_parallel(engine)
    state = engine.basic_optimizer.state
    found: dict[tuple[str, int, str], Tensor] = {}
    for number, one in enumerate(held(engine)):
        is_anothers = number % (workers // parts) != rank // parts
        if one.is_copy or (engine.zero_optimization_stage() == 0 and is_anothers):
            continue
        where = one.start, f"{one.name}{one.columns or ''}"
        found[WEIGHT, *where] = _copy(one.within(one.row))
        for kind, value in state[one.row].items():
            like_row = value.shape == one.row.shape
            found[kind, *where] = _copy(one.within(value) if like_row else value)
    if rank == 0:
        for name, buffer in buffers(engine).items():
            found[BUFFER, 0, name] = _copy(buffer)
    return found


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def buffers(engine: Any) -> Mapping[str, Tensor]:
    """The model's own buffers that belong to its state."""
    parameters = {name for name, _ in engine.module.named_parameters(remove_duplicate=False)}
    return {
        name: tensor
        for name, tensor in engine.module.state_dict().items()
        if name not in parameters
    }


def put(engine: Any, one: Held, kind: str, value: Tensor) -> None:
    """Sets what is kept of a stretch: an element for each of its own, or what belongs to the whole
    parameter, such as Adam's count of steps."""
    if kind == WEIGHT:
        one.within(one.row).copy_(value)
        return
    state = engine.basic_optimizer.state[one.row]
    if value.ndim == 1:
        if kind not in state:
            state[kind] = torch.zeros_like(one.row, requires_grad=False)
        one.within(state[kind]).copy_(value)
    elif kind in state:
        state[kind].copy_(value)
    else:
        state[kind] = value.to(one.row.device)


def loss_scale(engine: Any) -> dict[str, float | int]:
    """What the loss scaler has learned; nothing but under fp16."""
    if not engine.fp16_enabled():
        return {}
    return {
        name: value
        for name, value in vars(engine.optimizer.loss_scaler).items()
        if isinstance(value, float | int)
    }


def set_loss_scale(engine: Any, learned: Mapping[str, float | int]) -> None:
    if learned:
        vars(engine.optimizer.loss_scaler).update(learned)
