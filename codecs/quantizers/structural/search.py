# SPDX-License-Identifier: Apache-2.0
"""Search for the clusters of least structural entropy; their number emerges.

    singletons ── greedy merges ── moves of single nodes ──┐ until nothing changes
                       ▲───────────────────────────────────┘

Greedy merging always takes the pair of greatest gain, among all linked pairs at
once: a heap whose entries are dropped when a cluster in them has changed since
("lazy").

Gains are compared as integers of 1e-12 bits and ties go to the lower index, so a
build does not depend on the last bit of a logarithm.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polycodec.codecs.quantizers.structural.entropy import Partition
from polycodec.codecs.quantizers.structural.graph import Graph

if TYPE_CHECKING:
    from polycodec.codecs.quantizers.base import Progress

GRAIN = 1e12  # gains are compared in 1e-12 bits
SWEEPS, ROUNDS = 50, 5
# minus the gain, the two clusters, and the versions of them it holds for
Entry = tuple[int, int, int, int, int]


def minimise(graph: Graph, *, progress: Progress | None = None) -> Partition:
    """Find the clusters of ``graph`` from singletons; every degree must be above 0.

    ``progress`` is called with (stage, done, total) now and then.
    """
    partition = Partition(graph)
    merge_greedily(partition, progress=progress)
    for _ in range(ROUNDS):
        moved = move_nodes(partition, progress=progress)
        if not moved or not merge_greedily(partition):
            break
    return partition


def merge_greedily(
    partition: Partition,
    *,
    most: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Merge the best linked pair while that lowers H2; returns how many merges.

    most: instead go on, at the least loss, until that many clusters are left (or
    nothing is linked any more).
    """
    cuts = _cluster_graph(partition)
    alive = partition.clusters
    versions = [0] * len(cuts)
    losses = most is not None
    heap: list[Entry] = []
    for a, row in enumerate(cuts):
        later = {b: cut for b, cut in row.items() if b > a}
        heap += _entries(partition, a, later, versions, losses)
    heapq.heapify(heap)
    merges, first = 0, alive
    while heap and (most is None or alive > most):
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if versions[a] != version_a or versions[b] != version_b:
            continue
        if len(cuts[a]) < len(cuts[b]):
            a, b = b, a
        partition.merge(a, b, cuts[a][b])
        _join_rows(cuts, a, b)
        versions[a] += 1
        versions[b] += 1
        for entry in _entries(partition, a, cuts[a], versions, losses):
            heapq.heappush(heap, entry)
        merges, alive = merges + 1, alive - 1
        if progress and merges % 256 == 0:
            progress("merge", merges, first)
    return merges


def move_nodes(
    partition: Partition, *, sweeps: int = SWEEPS, progress: Progress | None = None
) -> int:
    """Move single nodes to the linked cluster of most gain until none gains.

    Between whole sweeps only neighbours of moved nodes are looked at again.
    """
    moved, everyone = 0, range(len(partition.labels))
    waiting: Sequence[int] = everyone
    for sweep in range(sweeps):
        changed: set[int] = set()
        for node in waiting:
            links = partition.links(node)
            gain, target = best_move(partition, node, links)
            if gain > 0:
                partition.move(node, target, links)
                moved += 1
                changed.add(node)
                changed.update(partition.adjacent[node])
        if progress:
            progress("move", sweep + 1, sweeps)
        if not changed and waiting is everyone:
            break
        waiting = sorted(changed) if changed else everyone
    return moved


def best_move(
    partition: Partition, node: int, links: Mapping[int, float]
) -> tuple[int, int]:
    """The gain in 1e-12 bits of the best move of ``node``, and its target."""
    best, target = 0, partition.labels[node]
    for cluster, bits in partition.move_gains(node, links).items():
        gain = round(bits * GRAIN)
        if gain > best or (gain == best > 0 and cluster < target):
            best, target = gain, cluster
    return best, target


def _cluster_graph(partition: Partition) -> list[dict[int, float]]:
    """Weights between clusters, {neighbour: cut} for each."""
    labels = partition.labels
    cuts: list[dict[int, float]] = [{} for _ in partition.volumes]
    for node, edges in enumerate(partition.adjacent):
        a = labels[node]
        row = cuts[a]
        for other, weight in edges.items():
            b = labels[other]
            if a != b:
                row[b] = row.get(b, 0.0) + weight
    return cuts


def _entries(
    partition: Partition,
    a: int,
    row: Mapping[int, float],
    versions: list[int],
    losses: bool,
) -> list[Entry]:
    """Heap entries of the pairs of ``a`` that gain, or of all with ``losses``."""
    entries, version = [], versions[a]
    for b, gain in partition.merge_gains(a, row).items():
        key = round(-gain * GRAIN)
        if key < 0 or losses:
            if a < b:
                entries.append((key, a, b, version, versions[b]))
            else:
                entries.append((key, b, a, versions[b], version))
    return entries


def _join_rows(cuts: list[dict[int, float]], a: int, b: int) -> None:
    """Give the links of cluster ``b`` to ``a``."""
    row = cuts[a]
    del row[b]
    for other, weight in cuts[b].items():
        if other == a:
            continue
        back = cuts[other]
        del back[b]
        row[other] = back[a] = row.get(other, 0.0) + weight
    cuts[b] = {}


def numbered(partition: Partition) -> np.ndarray:
    """Labels (N,) int64, clusters renumbered 0.. by size, then by lowest member."""
    living = [members for members in partition.members if members]
    living.sort(key=lambda members: (-len(members), min(members)))
    labels = np.empty(len(partition.labels), np.int64)
    for number, members in enumerate(living):
        labels[sorted(members)] = number
    return labels
