import numpy as np
import pytest

from trainers.corpora.duplicates.components import (
    Edges,
    both_ways,
    checksum,
    contracted,
    downwards,
    large_star,
    small_star,
)
from trainers.corpora.hashing import mix


def dealt(edges: Edges, buckets: int) -> list[Edges]:
    where = mix(edges[:, 0].astype(np.uint64)) % np.uint64(buckets)
    return [edges[where == bucket] for bucket in range(buckets)]


def solved(edges: Edges, buckets: int) -> tuple[dict[int, int], int]:
    """Node to the lowest of its component, by rounds over buckets; and the rounds."""
    before = None
    edges = np.concatenate([contracted(part) for part in np.array_split(edges, buckets)])
    for rounds in range(1, 60):
        edges = np.concatenate([large_star(part) for part in dealt(both_ways(edges), buckets)])
        edges = np.concatenate([small_star(part) for part in dealt(downwards(edges), buckets)])
        now = sum(map(checksum, dealt(edges, buckets))) % 2**64
        if now == before:
            return dict(edges.tolist()), rounds
        before = now
    raise AssertionError("no end")


def reference(edges: Edges) -> dict[int, int]:
    root = {int(node): int(node) for node in edges.ravel()}

    def find(node: int) -> int:
        while root[node] != node:
            node = root[node]
        return node

    for first, second in edges.tolist():
        low, high = sorted((find(first), find(second)))
        root[high] = low
    return {node: find(node) for node in root if find(node) != node}


def edges(*pairs: tuple[int, int]) -> Edges:
    return np.array(pairs, np.int64).reshape(-1, 2)


@pytest.mark.parametrize("buckets", [1, 2, 7])
@pytest.mark.parametrize(
    "graph",
    [
        edges(),
        edges((1, 2)),
        edges((5, 5), (6, 7)),
        edges(*((node, node + 1) for node in range(100))),
        edges(*((0, node) for node in range(1, 30))),
        edges(*((node, 29) for node in range(29))),
        edges((1 << 41, 3), (3, (1 << 41) + 1), (7, 8), (8, 9), (9, 7)),
        np.random.default_rng(17).integers(0, 300, (200, 2)),
        np.random.default_rng(18).permutation(1000)[np.arange(998)[:, None] + [0, 1]],
    ],
    ids=["none", "pair", "loop", "path", "star", "high star", "mixed", "random", "long path"],
)
def test_every_node_comes_to_the_lowest_of_its_component(graph: Edges, buckets: int) -> None:
    found, rounds = solved(graph, buckets)
    assert found == reference(graph)
    assert rounds < 20
    assert dict(contracted(graph).tolist()) == found


def test_a_checksum_does_not_depend_on_order_and_buckets() -> None:
    graph = np.random.default_rng(3).integers(0, 1 << 50, (500, 2))
    parts = dealt(graph[::-1], 5)
    assert checksum(graph) == sum(map(checksum, parts)) % 2**64
    assert checksum(graph) != checksum(graph[1:])
