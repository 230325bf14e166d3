"""Dropout for training on CPUs (Srivastava et al. 2014): y = x m / (1 - p), with m = 0 at chance p.

torch draws a mask there by one thread, one element at a time, which is a quarter of the time of a
step of a small encoder. Here four elements share the 64 bits of one draw of SFC64, seeded from
torch's generator: so a mask follows from its state, as torch's does, also where activations are
computed anew. The chance is a multiple of 1 / 65,536.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

RANGE = 1 << 16


def prepare(model: nn.Module, device: str) -> None:
    """Has the layers of a model that drop elements do so by `dropout`, on CPUs."""
    if device != "cpu":
        return
    for module in [*model.modules()]:
        for name, layer in module.named_children():
            if type(layer) is nn.Dropout:
                setattr(module, name, Dropout(layer.p))


class Dropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)


def dropout(values: Tensor, chance: float, is_training: bool = True) -> Tensor:
    """Values with some of them 0, and the others as much larger. What torch compiles has its
    own."""
    dropped = round(chance * RANGE)
    is_torchs = torch.compiler.is_compiling() or values.device.type != "cpu"
    if is_torchs or not is_training or not 0 < dropped < RANGE:
        return functional.dropout(values, chance, is_training)
    return _Dropped.apply(values, dropped)  # type: ignore[no-untyped-call]


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, dropped: int) -> Tensor:  # type: ignore[no-untyped-def,override]
        kept = torch.from_numpy(_drawn(values.numel()) >= dropped - RANGE // 2).view(values.shape)
        ctx.save_for_backward(kept)
        ctx.scale = RANGE / (RANGE - dropped)
        return _scaled(values, kept, ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def,override]
        (kept,) = ctx.saved_tensors
        return _scaled(gradient, kept, ctx.scale), None


def _drawn(number: int) -> npt.NDArray[np.int16]:
    """So many integers, each as likely."""
    generator = np.random.SFC64(int(torch.randint(1 << 62, ())))
    return generator.random_raw(-(-number // 4)).view(np.int16)[:number]


def _scaled(values: Tensor, kept: Tensor, scale: float) -> Tensor:
    """By three loops, each of one type: torch's one loop over values and booleans, in
    native_dropout_backward, takes three times as long."""
    return (values * kept.view(torch.uint8).to(values.dtype)).mul_(scale)
