"""What the cluster has, and whether what a recipe asks for can ever fit.

Ray waits for ever for CPUs that do not exist, with only progress lines as a sign. So every stage
says here, before it starts, what it will hold at the same time.
"""

import collections
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from cluster.errors import UserError

RAY_STEPS = 10_000
"""Ray counts resources in ten-thousandths: ten times 0.1 is one, which it is not in floats."""


def refuse_unless_fits(
    key: str,
    wanted: Mapping[str, float],
    available: Mapping[str, float],
    remedy: str,
    held: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Raises UserError if `wanted`, such as {"CPU": 4}, is more than the cluster will ever have
    beside what is `held`, by endpoints."""
    for resource, amount in wanted.items():
        has, kept = available.get(resource, 0), held.get(resource, 0)
        if amount > has - kept:
            of_which = f", of which endpoints hold {kept:g}" if kept else ""
            further = ", or delete an endpoint (`serve.delete(NAME)`, of Ray Serve)" if kept else ""
            raise UserError(
                f"{key}: needs {amount:g} {resource}s at once, the cluster has {has:g}{of_which}; "
                f"{remedy}{further}"
            )


def concurrent(each: Mapping[str, float], available: Mapping[str, float], at_most: int) -> int:
    """How many groups of `each` run at the same time; 0 if not even one does."""
    fitting = [
        _times(name, amount, available.get(name, 0)) for name, amount in each.items() if amount
    ]
    return min([at_most, *fitting])


def _times(name: str, amount: float, available: float) -> int:
    """How often so much of a resource is there. A fraction of a GPU lies on one GPU."""
    if name == "GPU" and amount < 1:
        whole = int(available)
        return whole * _parts(1.0, amount) + _parts(available - whole, amount)
    return _parts(available, amount)


def _parts(available: float, amount: float) -> int:
    return round(available * RAY_STEPS) // max(1, round(amount * RAY_STEPS))


def gpus(processes: int, each: float) -> float:
    """GPUs that so many processes hold together, each a fraction or whole ones: of 0.4 two lie on a
    GPU. Pure."""
    if each == 0 or each >= 1:
        return processes * each
    on_one = _parts(1.0, each)
    return processes // on_one + processes % on_one * each


def less(resources: Mapping[str, float], held: Mapping[str, float]) -> dict[str, float]:
    """What is left. Pure."""
    return {name: amount - held.get(name, 0.0) for name, amount in resources.items()}


def summed(resources: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All of each resource. Pure."""
    total: collections.Counter[str] = collections.Counter()
    for one in resources:
        total.update(one)
    return dict(total)


def largest(*resources: Mapping[str, float]) -> dict[str, float]:
    """The most of each resource. Pure."""
    names = {name for found in resources for name in found}
    return {name: max(found.get(name, 0.0) for found in resources) for name in sorted(names)}
