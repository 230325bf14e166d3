"""What an adapter must pass before it is published, in a process without an engine.

It is read as anybody reads it, by Transformers and PEFT, on the base that it names: no tensor is
empty or without a finite value, nothing that was trained is missing, and its answers are those of
the trained model. Merged into its base it gives the same answers again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from peft import PeftModel
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import load_file
from torch import Tensor

from cluster.errors import GateRefused
from trainers.methods import loading, quantized
from trainers.methods.config import AdaLora, Lora, VirtualTokens
from trainers.methods.loading import WEIGHTS, plain_base
from trainers.methods.record import PEFT_CONFIG, RECORD, AdapterRecord

TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.1}
"""How far answers may be from the engine's, as a share of them: they are computed in fp32, the
engine's in its own precision, by which 30 layers in bf16 differ by 0.04. What is lost on the way is
told exactly, by its number of elements."""
MERGED = 1e-3
"""The same, of a merged model, which computes as the adapter does."""
ROWS, TOKENS = 2, 12


class Probe(NamedTuple):
    inputs: dict[str, Tensor]
    logits: Tensor
    """What the trained model says of them."""


def inputs(config: Any) -> dict[str, Tensor]:
    """Some tokens, the same ones each time."""
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (ROWS, TOKENS), generator=drawn)
    probe = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.is_encoder_decoder:
        probe["decoder_input_ids"] = ids.flip(1)
    return probe


def check(folder: Path, probe: Probe, tolerance: float, elements: int) -> None:
    """Raises GateRefused; merges the adapter in a folder where its method says so. `elements` is
    how many numbers were trained."""
    record = AdapterRecord.read(folder)
    adapter = record.adapter
    refused = next(_faults(load_file(folder / WEIGHTS), record, elements), None)
    bits = adapter.base_bits if isinstance(adapter, Lora) else None
    if refused is None:
        found = _logits(_as_anybody_loads_it(folder, record, bits), probe)
        refused = _differs("read again", found, probe.logits, tolerance)
    if refused is None and adapter.merges:
        if bits is not None:
            found = _logits(_as_anybody_loads_it(folder, record), probe)
        merged = loading.load(folder, record.architecture).eval()
        refused = _differs("merged", _logits(merged, probe), found, MERGED)
        if refused is None and adapter.is_merged:
            _write_merged(merged, folder)
    if refused is not None:
        raise GateRefused(
            f"the model is not published: its {adapter.name} adapter {refused}; this is an error "
            "of raymill or PEFT: report it with the recipe"
        )


def _faults(weights: Mapping[str, Tensor], record: AdapterRecord, elements: int) -> Iterator[str]:
    for name, weight in weights.items():
        if weight.numel() == 0:
            yield f"has an empty tensor, {name}"
        if not bool(torch.isfinite(weight).all()):
            yield f"has numbers that are not finite in {name}"
    for module in record.trained_whole:
        if not any(f"{module}." in name for name in weights):
            yield f"lacks {module}, which was trained"
    # The ranks that AdaLoRA drops and the network behind virtual tokens are in no file.
    is_all = not isinstance(record.adapter, AdaLora | VirtualTokens)
    written = sum(weight.numel() for weight in weights.values())
    if is_all and written != elements:
        yield f"has {written:,} of the {elements:,} numbers that were trained"


def _as_anybody_loads_it(
    folder: Path, record: AdapterRecord, bits: Literal[4, 8] | None = None
) -> Any:
    """By Transformers and PEFT alone, where PEFT knows the method; its base in so many bits."""
    if not (folder / PEFT_CONFIG).is_file():
        return loading.load(folder, record.architecture).eval()
    with plain_base(folder, record.architecture) as base:
        if bits is not None:
            quantized.quantize(base, bits, record.trained_whole, base.device)
        peft = PeftModel.from_pretrained(base, str(folder))
    lost = [
        name
        for name, module in peft.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper) and not module.active_adapters
    ]
    if lost:
        raise GateRefused(f"the model is not published: PEFT does not use {lost[0]} of its adapter")
    return peft.eval()


@torch.no_grad()
def _logits(model: Any, probe: Probe) -> Tensor:
    """Of the probe's own tokens: PEFT puts virtual ones in front."""
    logits: Tensor = model(**probe.inputs).logits.float()
    return logits[:, -probe.logits.shape[1] :] if logits.ndim == 3 else logits


def _differs(how: str, found: Tensor, wanted: Tensor, tolerance: float) -> str | None:
    off = difference(found, wanted)
    return None if off <= tolerance else f"{how} gives other answers, off by {off:.2g}"


def difference(found: Tensor, wanted: Tensor) -> float:
    """Of all logits together, as a share of those wanted: what one of a million loses by a lower
    precision may be a fifth of the largest."""
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-6))


def _write_merged(model: Any, folder: Path) -> None:
    for name in (RECORD, WEIGHTS, PEFT_CONFIG):
        (folder / name).unlink()
    model.save_pretrained(folder)
