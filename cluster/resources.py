"""What the cluster has, and whether what a recipe asks for can ever fit.

Ray waits for ever for CPUs that do not exist, with only progress lines as a sign. So every stage
says here, before it starts, what it will hold at the same time.
"""

from collections.abc import Mapping

from cluster.errors import UserError


def refuse_unless_fits(
    key: str, wanted: Mapping[str, float], available: Mapping[str, float], remedy: str
) -> None:
    """Raises UserError if `wanted`, such as {"CPU": 4}, is more than the cluster will ever have."""
    for resource, amount in wanted.items():
        has = available.get(resource, 0)
        if amount > has:
            raise UserError(
                f"{key}: needs {amount:g} {resource}s at once, the cluster has {has:g}; {remedy}"
            )


def concurrent(each: Mapping[str, float], available: Mapping[str, float], at_most: int) -> int:
    """How many groups of `each` run at the same time; 0 if not even one does."""
    fitting = [int(available.get(name, 0) // amount) for name, amount in each.items() if amount]
    return min([at_most, *fitting])


def largest(*resources: Mapping[str, float]) -> dict[str, float]:
    """The most of each resource. Pure."""
    names = {name for found in resources for name in found}
    return {name: max(found.get(name, 0.0) for found in resources) for name in sorted(names)}
