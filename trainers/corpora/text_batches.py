"""Texts together, up to a size: what a step takes at once, so that its memory is bounded."""

from collections.abc import Iterable, Iterator


def batched(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Lists of texts with so many characters in all, or one more text than that."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
