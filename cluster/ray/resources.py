"""What the cluster has, and whether what a recipe asks for can ever fit.

Ray waits for ever for CPUs that do not exist, with only progress lines as a sign. So every stage
says here, before it starts, what it will hold at the same time.
"""

import collections
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from cluster.errors import UserError


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
    fitting = [int(available.get(name, 0) // amount) for name, amount in each.items() if amount]
    return min([at_most, *fitting])


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
