"""Connected components of a graph that no single process holds: alternating large and small stars
(Kiveris et al. 2014, Connected Components in MapReduce and Beyond).

Edges lie in buckets by a hash of their first node. A star operation looks at one bucket alone, and
its result is dealt out to buckets again; after about log(longest path) rounds every node points to
the lowest one of its component. Pure; the rounds are run by whoever has the buckets.
"""

import numpy as np
import numpy.typing as npt

from trainers.corpora.hashing import mix

Edges = npt.NDArray[np.int64]
"""(edges, 2)"""


def both_ways(edges: Edges) -> Edges:
    """Each edge from both its ends, as `large_star` needs it."""
    return np.concatenate([edges, edges[:, ::-1]])


def downwards(edges: Edges) -> Edges:
    """Each edge from its higher end, as `small_star` needs it."""
    return np.sort(edges, axis=1)[:, ::-1]


def large_star(edges: Edges) -> Edges:
    """Every neighbour above a node points to the lowest of the node and its neighbours."""
    nodes, others, lowest = _lowest(edges)
    above = others > nodes
    return unique(np.stack([others[above], lowest[above]], axis=1))


def small_star(edges: Edges) -> Edges:
    """A node and its neighbours below it point to the lowest of those."""
    nodes, others, lowest = _lowest(edges)
    pointing = np.concatenate([np.stack([others, lowest], axis=1), np.stack([nodes, lowest], 1)])
    return unique(pointing[pointing[:, 0] != pointing[:, 1]])


def contracted(edges: Edges) -> Edges:
    """Edges with the same components, in which every node points to the lowest one that these edges
    lead to: rounds over one bucket alone, which spare rounds over all of them."""
    before = None
    while (now := checksum(edges)) != before:
        before = now
        edges = small_star(downwards(large_star(both_ways(edges))))
    return edges


def checksum(edges: Edges) -> int:
    """The same for the same set of edges, in whatever order and buckets; sums add up."""
    first, second = edges[:, 0].astype(np.uint64), edges[:, 1].astype(np.uint64)
    return int(mix(mix(first) + second).sum(dtype=np.uint64))


def _lowest(
    edges: Edges,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Edges sorted by their first node, and the lowest of each node with all its neighbours."""
    edges = edges[np.argsort(edges[:, 0], kind="stable")]
    nodes, others = edges[:, 0], edges[:, 1]
    starts = np.flatnonzero(np.concatenate([[True], nodes[1:] != nodes[:-1]]))
    if not len(nodes):
        return nodes, others, nodes
    lowest = np.minimum(np.minimum.reduceat(others, starts), nodes[starts])
    return nodes, others, np.repeat(lowest, np.diff(np.append(starts, len(nodes))))


def unique(edges: Edges) -> Edges:
    """Each once, in order; several times as fast as `np.unique` of rows."""
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    is_new = np.ones(len(edges), dtype=bool)
    is_new[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[is_new]
