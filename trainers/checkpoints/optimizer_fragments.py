"""The fragments of weights and optimizer state that a rank has, under each of ZeRO's stages.

ZeRO lays the parameters end to end and cuts this row into a piece for each rank, differently in
each stage and at each number of workers. Here the pieces are taken apart by parameter, so that any
engine finds its fragments in those of any other. (DeepSpeed's own universal format knows AdamW
alone, does not go from stage 3 to another one, and is made by a conversion of all files.)
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainers.checkpoints.parts import Columns, Key
from trainers.parallel.tensor_parallel import WeightSlice, slice_of

WEIGHT, BUFFER = "weight", "buffer"
"""Kinds of tensors in a checkpoint; the others are the optimizer's, by its names."""


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A stretch of one parameter that this rank's optimizer updates."""

    name: str
    start: int
    """Its first element, in the flattened parameter; or in its flattened `columns`."""
    elements: int
    tensor: Tensor
    """The optimizer's own tensor, fp32, of which it is a part: a parameter, or a rank's piece of
    many. The optimizer keeps its state by it."""
    offset: int
    """Its first element in the flattened tensor."""
    columns: Columns | None = None
    """This rank's, of a matrix whose columns several ranks divide."""
    is_copy: bool = False
    """Whether another rank of the tensor parallel group has it too, and writes it."""

    def of(self, tensor: Tensor) -> Tensor:
        """A view of its elements in a tensor that is shaped like its own."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.elements)


def fragments(engine: Any, writes: bool = False) -> Iterator[Fragment]:
    """All fragments of this rank. With `writes`, each must be written before the next is taken; it
    is then passed on to the weights that the model computes with."""
    slices = _weight_slices(engine)
    is_copy = any(one.tp_rank for one in slices.values())
    by_stage = {1: _of_stages_1_and_2, 2: _of_stages_1_and_2, 3: _of_stage_3}
    stage = engine.zero_optimization_stage()
    for fragment in by_stage.get(stage, _of_stage_0)(engine, writes):
        weight_slice = slices.get(fragment.name)
        if weight_slice is None:
            yield dataclasses.replace(fragment, is_copy=is_copy)
        elif weight_slice.dim == 0:  # rows of a matrix are a stretch of it
            begin = weight_slice.begin * math.prod(weight_slice.shape[1:])
            yield dataclasses.replace(fragment, start=begin + fragment.start)
        else:
            columns = Columns(weight_slice.begin, weight_slice.end, weight_slice.shape[1])
            yield dataclasses.replace(fragment, columns=columns)


def _weight_slices(engine: Any) -> dict[str, WeightSlice]:
    slices = {name: slice_of(parameter) for parameter, name in engine.param_names.items()}
    return {name: one for name, one in slices.items() if one is not None}


def tensor_parallel_size(engine: Any) -> int:
    return max((one.tp_size for one in _weight_slices(engine).values()), default=1)


def _of_stage_0(engine: Any, writes: bool) -> Iterator[Fragment]:
    """Every rank has all: under fp32 the parameters themselves, under bf16 copies of them."""
    names = engine.param_names
    if engine.optimizer is engine.basic_optimizer:
        for group in engine.optimizer.param_groups:
            for parameter in group["params"]:
                yield Fragment(names[parameter], 0, parameter.numel(), parameter, 0)
        return
    for low, high in zip(engine.optimizer.fp16_groups, engine.optimizer.fp32_groups, strict=True):
        for parameter, master in zip(low, high, strict=True):
            yield Fragment(names[parameter], 0, master.numel(), master, 0)
            if writes:
                parameter.data.copy_(master.data)


def _of_stages_1_and_2(engine: Any, writes: bool) -> Iterator[Fragment]:
    groups = engine.basic_optimizer.param_groups
    for parameter, name in engine.param_names.items():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None:  # else other ranks have it, or it is not trained
            (piece,) = groups[mapping.param_group_index]["params"]
            in_parameter, in_piece = mapping.lp_fragment_address, mapping.hp_fragment_address
            yield Fragment(name, in_parameter.start, in_piece.numel, piece, in_piece.start)
    if writes:
        engine.optimizer.update_lp_params()


def _of_stage_3(engine: Any, writes: bool) -> Iterator[Fragment]:
    optimizer = engine.optimizer
    if writes:
        optimizer.checkpoint_event_prologue()  # all parameters are cut
    for number, group in enumerate(optimizer.fp16_groups):
        is_swapped = optimizer._swappable_optimizer_subgroup(number)
        if is_swapped:
            optimizer._optimizer_states_and_gradient_swap_in(number)
        piece, offset = optimizer.fp32_partitioned_groups_flat[number], 0
        for parameter in group:
            share, rank = parameter.partition_numel(), dist.get_rank(parameter.ds_process_group)
            elements = min(share, parameter.ds_numel - rank * share)  # the last share is padded
            if elements > 0:
                name = engine.param_names[parameter]
                yield Fragment(name, rank * share, elements, piece, offset)
            offset += share
        if writes:
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if is_swapped and writes:
            optimizer._optimizer_states_and_gradient_swap_out(number)
        elif is_swapped:
            optimizer._release_swap_buffers(number)
    if writes:
        optimizer.checkpoint_event_epilogue()


def snapshot(engine: Any) -> dict[Key, Tensor]:
    """This rank's part of a checkpoint, copied to memory. Tensors with an element for each of a
    fragment's are of one dimension, no others are. Ranks that have the same divide it."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    is_replicated = engine.zero_optimization_stage() == 0
    tensors: dict[Key, Tensor] = {}
    for number, fragment in enumerate(fragments(engine)):
        if fragment.is_copy or (is_replicated and number % workers != rank):
            continue
        key = fragment.start, f"{fragment.name}{fragment.columns or ''}"
        tensors[WEIGHT, *key] = _copy(fragment.of(fragment.tensor))
        for kind, value in engine.basic_optimizer.state[fragment.tensor].items():
            is_by_element = value.shape == fragment.tensor.shape
            tensors[kind, *key] = _copy(fragment.of(value) if is_by_element else value)
    if rank == 0:
        for name, buffer in buffers(engine).items():
            tensors[BUFFER, 0, name] = _copy(buffer)
    return tensors


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def buffers(engine: Any) -> Mapping[str, Tensor]:
    """The model's own buffers that belong to its state, which may have more: how weights were
    rounded."""
    state = engine.module.state_dict()
    return {name: buffer for name, buffer in engine.module.named_buffers() if name in state}


def write(engine: Any, fragment: Fragment, kind: str, value: Tensor) -> None:
    """Sets what is kept of a fragment: an element for each of its own, or what belongs to the whole
    parameter, such as Adam's count of steps."""
    if kind == WEIGHT:
        fragment.of(fragment.tensor).copy_(value)
        return
    state = engine.basic_optimizer.state[fragment.tensor]
    if value.ndim == 1:
        if kind not in state:
            state[kind] = torch.zeros_like(fragment.tensor, requires_grad=False)
        fragment.of(state[kind]).copy_(value)
    elif kind in state:
        state[kind].copy_(value)
    else:
        state[kind] = value.to(fragment.tensor.device)


def loss_scale(engine: Any) -> dict[str, float | int]:
    """What the loss scaler has learned, under fp16."""
    if not engine.fp16_enabled():
        return {}
    return {
        name: value
        for name, value in vars(engine.optimizer.loss_scaler).items()
        if isinstance(value, float | int)
    }
