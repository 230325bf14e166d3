"""What a micro-batch takes: its forward and backward pass on fake tensors, which have shapes and no
values, and what is alive after each operation.

So activations are not by a formula for some architecture (as Korthikanti et al. 2022 have them) but
what this model's autograd keeps, with this objective, these masks and this precision, and the
temporaries at the worst moment. Where a shape depends on values, as that of the masked positions,
they are real: integers and booleans are computed beside the fake ones.
"""

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from trainers.tasks.task import Batch

aten = torch.ops.aten
INDEXING = (
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default, aten._unsafe_index_put.default,
)  # fmt: skip
FUSED_ATTENTION: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query.shape, key.shape, value.shape)
    ),
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: (
        lambda grad, query, key, value, *_, **__: sdpa_backward_flop_count(
            grad.shape, query.shape, key.shape, value.shape
        )
    ),
}
"""What torch's own table of operations leaves out."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """Bytes that are alive after each operation."""

    activations: npt.NDArray[np.int64]
    """With temporaries and the batch; without weights."""
    gradients: npt.NDArray[np.int64]
    """Of the weights, in their precision: none at first, all at the end."""
    operations: Sequence[Any]
    """Which these are."""
    flops: int
    """Of matrix products and attention."""

    def joined(self, begin: int, left: int) -> Self:
        """With all but the first so many operations, and the last, as two: where activations are
        the most, and where they are with gradients."""
        middle = slice(begin, len(self.operations) - left)
        both = self.activations + self.gradients
        worst = sorted(begin + one[middle].argmax() for one in (self.activations, both))
        kept = np.r_[:begin, worst, middle.stop : len(self.operations)]
        return dataclasses.replace(
            self,
            activations=self.activations[kept],
            gradients=self.gradients[kept],
            operations=[self.operations[place] for place in kept],
        )


def aligned(one: Trace, other: Trace) -> tuple[Trace, Trace]:
    """The same with as many operations in both. Where these part, as in a loss in chunks or in
    attention by documents, of which there are more for more tokens, they count as two. Pure."""
    pairs = [*zip(one.operations, other.operations, strict=False)]
    backward = zip(reversed(one.operations), reversed(other.operations), strict=False)
    begin = next((place for place, (a, b) in enumerate(pairs) if a is not b), len(pairs))
    if begin == len(one.operations) == len(other.operations):
        return one, other
    left = next((place for place, (a, b) in enumerate(backward) if a is not b), len(pairs))
    begin = max(0, begin - 1)  # so that there is one in both
    left = min(left, len(pairs) - begin - 1)
    return one.joined(begin, left), other.joined(begin, left)


def trace(objective: nn.Module, batch: Batch, dtype: torch.dtype) -> Trace:
    """Of a module on the meta device that computes in `dtype`."""
    with FakeTensorMode() as fakes:
        alive = _Alive(_faked(objective.train(), dtype))
        with alive:
            inputs = {}
            for name, value in batch.items():
                inputs[name] = fakes.from_tensor(value)
                alive.knows(inputs[name], value)
            loss, _ = objective(inputs)
            loss.backward()
    activations, gradients = np.array(alive.activations), np.array(alive.gradients)
    return Trace(activations, gradients, alive.operations, alive.flops)


def _faked(objective: nn.Module, dtype: torch.dtype) -> list[nn.Parameter]:
    """Puts fake tensors on the CPU in place of those on the meta device, tied ones together."""
    made: dict[int, Tensor] = {}
    for module in objective.modules():
        for named in (module._parameters, module._buffers):
            for name, value in named.items():
                if value is None:
                    continue
                if id(value) not in made:
                    kind = dtype if value.is_floating_point() else value.dtype
                    fake: Tensor = torch.empty(value.shape, dtype=kind, device="cpu")
                    is_weight = isinstance(value, nn.Parameter)
                    made[id(value)] = nn.Parameter(fake, value.requires_grad) if is_weight else fake
                    made[id(made[id(value)])] = made[id(value)]
                named[name] = made[id(value)]  # type: ignore[assignment]
    return list(objective.parameters())


class _Alive(TorchDispatchMode):
    """Follows every storage from the operation that makes it until nothing refers to it."""

    def __init__(self, weights: list[nn.Parameter]):
        super().__init__()
        self.activations: list[int] = []
        self.gradients: list[int] = []
        self.operations: list[Any] = []
        self.flops = 0
        self._now = {"activations": 0, "gradients": 0}
        self._kinds: dict[int, str] = {}
        """Of every storage that is alive."""
        self._references: list[Any] = []
        self._values: Any = WeakIdKeyDictionary()
        """Of fake integers and booleans, where they are known."""
        self._own = {weight.untyped_storage()._cdata for weight in weights}
        self._weights = weights
        for weight in weights:
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(self._became_gradient)

    def knows(self, fake: Tensor, value: Tensor) -> None:
        self._values[fake] = value
        self._follow(fake)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is aten._local_scalar_dense.default and args[0] in self._values:
            with unset_fake_temporarily():
                return self._values[args[0]].item()
        if function in INDEXING:
            args = (args[0], self._numbers(args[1]), *args[2:])
        if function is aten.nonzero.default:
            made: Any = self._places(args[0])
        else:
            made = function(*args, **kwargs)
        self._count(function, args, kwargs, made)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._follow(tensor)
        self._note(function)
        self._compute(function, args, kwargs, made)
        return made

    def _note(self, operation: Any) -> None:
        self.activations.append(self._now["activations"])
        self.gradients.append(self._now["gradients"])
        self.operations.append(operation)

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._kinds or key in self._own:
            return
        self._kinds[key] = "activations"
        self._now["activations"] += size
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._now[self._kinds.pop(key)] -= size

    def _became_gradient(self, weight: Tensor) -> None:
        assert weight.grad is not None
        storage = weight.grad.untyped_storage()
        self._follow(weight.grad)
        if self._kinds[storage._cdata] == "activations":
            self._kinds[storage._cdata] = "gradients"
            self._now["activations"] -= storage.nbytes()
            self._now["gradients"] += storage.nbytes()
        self._note("gradient")

    def _numbers(self, indices: Any) -> list[Any]:
        """Masks as the numbers of their true places, as many as there are."""
        numbers: list[Any] = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                numbers.append(index)
                continue
            count = self._true(index)
            numbers += [torch.empty(count, dtype=torch.long) for _ in range(index.ndim)]
        return numbers

    def _places(self, mask: Tensor) -> Tensor:
        """Of what is true: (places, dimensions)."""
        return torch.empty(self._true(mask), mask.ndim, dtype=torch.long)

    def _true(self, mask: Tensor) -> int:
        """How many places are."""
        with unset_fake_temporarily():
            return int(self._values[mask].sum())

    def _compute(self, function: Any, args: Any, kwargs: Any, made: Any) -> None:
        """The values of integers and booleans that come from known ones alone."""
        outputs = [one for one in tree_leaves(made) if isinstance(one, Tensor)]
        if not outputs or any(one.is_floating_point() for one in outputs):
            return
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if all(one in self._values for one in given):
            args, kwargs = tree_map_only(Tensor, self._values.__getitem__, (args, kwargs))
            with unset_fake_temporarily():
                self._values.update(
                    zip(outputs, tree_leaves(function(*args, **kwargs)), strict=True)
                )
        else:
            for one in outputs:  # written over in place
                self._values.pop(one, None)

    def _count(self, function: Any, args: Any, kwargs: Any, made: Any) -> None:
        counted = FUSED_ATTENTION.get(function)
        if counted is not None:
            self.flops += counted(*args, **kwargs)
        elif function._overloadpacket in flop_registry:
            known = flop_registry[function._overloadpacket]
            self.flops += known(*args, **kwargs, out_val=made)
