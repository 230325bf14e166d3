"""From an engine to a plain Hugging Face folder.

The weights are the optimizer's own, in fp32, whatever the model computed in. ZeRO has them in parts
on all ranks: they are put together one by one, and rank 0 writes them as soon as they fill a file.
So no process holds more than a file's worth besides its own part.
"""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from cluster.store.artifacts import Draft
from trainers.models import build as models
from trainers.parallel import tensor_parallel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FILE_BYTES = 2 * 10**9
"""Of a file of weights, at most; but a single weight is never parted."""


def export(engine: Any, model: Any, tokenizer: "PreTrainedTokenizerFast", draft: Draft) -> None:
    """Called by every rank; rank 0 writes config, tokenizer and weights. The others do not wait
    until these are on storage, which may take longer than a collective lives."""
    is_writer = dist.get_rank() == 0
    with draft.folder() if is_writer else contextlib.nullcontext() as folder:
        for place, part in models.parts(model).items():
            written = folder / place if folder else None
            if written:
                models.save_config(part, written)
            _write_weights(engine, part, written)
        if folder:
            tokenizer.save_pretrained(folder)


def _write_weights(engine: Any, model: "PreTrainedModel", folder: Path | None) -> None:
    """Every rank brings its part of every weight; the rank with a folder writes."""
    weights = models.weights(model)
    whole = Whole(engine)
    outlines = {name: _outline(weight) for name, weight in weights.items()}
    files = split_torch_state_dict_into_shards(outlines, max_shard_size=FILE_BYTES)
    for file, names in files.filename_to_tensors.items():
        of_file: dict[str, Tensor] = {}
        for name in names:
            value = whole(weights[name])
            if folder:
                of_file[name] = value.cpu().contiguous()
        if folder:
            save_file(of_file, folder / file, metadata={"format": "pt"})
    if folder and files.is_sharded:
        index = {"metadata": files.metadata, "weight_map": files.tensor_to_filename}
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2), "utf-8")


def _outline(weight: Tensor) -> Tensor:
    """As large as the weight in its file, without values."""
    dtype = torch.float32 if weight.is_floating_point() else weight.dtype
    weight_slice = tensor_parallel.slice_of(weight)
    shape = weight_slice.shape if weight_slice else getattr(weight, "ds_shape", weight.shape)
    return torch.empty(shape, dtype=dtype, device="meta")


class Whole:
    """Whole weights of an engine in fp32. Called by every rank, for the same weight."""

    def __init__(self, engine: Any):
        self._stage = engine.zero_optimization_stage()
        self._masters: dict[Tensor, Tensor] = {}
        if self._stage == 0 and hasattr(engine.optimizer, "fp32_groups"):  # under bf16
            for low, high in zip(
                engine.optimizer.fp16_groups, engine.optimizer.fp32_groups, strict=True
            ):
                self._masters.update(zip(low, high, strict=True))

    def __call__(self, weight: Tensor) -> Tensor:
        return tensor_parallel.gather(weight, self._without_zero(weight))

    def _without_zero(self, weight: Tensor) -> Tensor:
        """All of it, or of this worker's part of it where workers share layers."""
        import deepspeed

        if self._stage and weight.requires_grad:
            return deepspeed.utils.safe_get_full_fp32_param(weight).detach()
        weight = self._masters.get(weight, weight)
        with deepspeed.zero.GatheredParameters([weight], enabled=hasattr(weight, "ds_id")):
            value = weight.detach().clone()  # what was gathered is gone behind this block
        return value.float() if value.is_floating_point() else value
