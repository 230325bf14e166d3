"""Texts together, up to a size: what a step takes at once, so that its memory is bounded."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def batched(
    items: Iterable[Item], limit: int, size: Callable[[Any], int] = len
) -> Iterator[list[Item]]:
    """Lists of texts with so many characters in all, or one more text than that; or of other items
    by their `size`."""
    batch: list[Item] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= limit:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
