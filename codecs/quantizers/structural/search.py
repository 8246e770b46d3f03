# SPDX-License-Identifier: Apache-2.0
"""Search for the clusters of least structural entropy; their number emerges.

    singletons ── greedy merges ── moves of single nodes ──┐ until nothing changes
                       ▲───────────────────────────────────┘

    then     near-equal codes ─► merged      closer than 0.25 × the median nearest-code
                                             distance, if H2 grows by 1e-3 bits at most
             too many codes   ─► merged      linked pairs at the least loss
             tiny codes       ─► dissolved   each member joins the code of best score

Greedy merging always takes the pair of greatest gain, among all linked pairs at
once: a heap whose entries are dropped when a cluster in them has changed since
("lazy").

Gains are compared as integers of 1e-12 bits and ties go to the lower index, so a
build does not depend on the last bit of a logarithm.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from polycodec.codecs.quantizers.structural.entropy import Partition
from polycodec.codecs.quantizers.structural.graph import Graph

GRAIN = 1e12  # gains are compared in 1e-12 bits
SWEEPS, ROUNDS = 50, 5
CLOSE = 0.25  # of the median distance between nearest codes
SLACK = 1e-3  # bits of structural entropy that one merge of near-equals may cost
# minus the gain, the two clusters, and the versions of them it holds for
Entry = tuple[int, int, int, int, int]


def minimise(graph: Graph) -> Partition:
    """Find the clusters of ``graph`` from singletons; every degree must be above 0."""
    partition = Partition(graph)
    merge_greedily(partition)
    for _ in range(ROUNDS):
        moved = move_nodes(partition)
        if not moved or not merge_greedily(partition):
            break
    return partition


def merge_greedily(partition: Partition, *, most: int | None = None) -> int:
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
    merges = 0
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
    return merges


def move_nodes(partition: Partition, *, sweeps: int = SWEEPS) -> int:
    """Move single nodes to the linked cluster of most gain until none gains.

    Between whole sweeps only neighbours of moved nodes are looked at again.
    """
    moved, everyone = 0, range(len(partition.labels))
    waiting: Sequence[int] = everyone
    for _ in range(sweeps):
        changed: set[int] = set()
        for node in waiting:
            links = partition.links(node)
            gain, target = best_move(partition, node, links)
            if gain > 0:
                partition.move(node, target, links)
                moved += 1
                changed.add(node)
                changed.update(partition.adjacent[node])
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


def disentangle(
    partition: Partition,
    points: np.ndarray,
    *,
    close: float = CLOSE,
    slack: float = SLACK,
) -> int:
    """Merge clusters whose means in ``points`` (N, G) are near-equal; how many."""
    merges, limit = 0, None
    while True:
        living, middles = centres(partition, points)
        if len(living) < 2:
            return merges
        each = torch.from_numpy(middles)
        distances = torch.cdist(each, each).numpy()
        np.fill_diagonal(distances, np.inf)
        if limit is None:
            limit = close * float(np.median(distances.min(axis=1)))
        if not (found := _merge_close(partition, living, distances, limit, slack)):
            return merges
        merges += found


def _merge_close(
    partition: Partition,
    living: list[int],
    distances: np.ndarray,
    limit: float,
    slack: float,
) -> int:
    """One pass over the close pairs, nearest first, each cluster at most once."""
    rows, columns = np.nonzero(np.triu(distances < limit, 1))
    order = np.lexsort((columns, rows, distances[rows, columns]))
    touched: set[int] = set()
    for place in order:
        a, b = living[rows[place]], living[columns[place]]
        if a in touched or b in touched:
            continue
        cut = partition.cut(a, b)
        if partition.merge_gains(a, {b: cut})[b] >= -slack:
            partition.merge(a, b, cut)
            touched |= {a, b}
    return len(touched) // 2


def cap(partition: Partition, points: np.ndarray, most: int) -> None:
    """Bring the number of clusters down to ``most``."""
    merge_greedily(partition, most=most)
    # What is left over is not linked at all: the smallest go to their nearest.
    while partition.clusters > most:
        sizes = [(len(m), c) for c, m in enumerate(partition.members) if m]
        dissolve(partition, points, [min(sizes)[1]])


def dissolve_small(partition: Partition, points: np.ndarray, least: int) -> int:
    """Dissolve clusters of fewer than ``least`` nodes; returns how many."""
    sizes = [(len(m), c) for c, m in enumerate(partition.members) if 0 < len(m) < least]
    if len(sizes) == partition.clusters:
        sizes.remove(max(sizes))
    dissolve(partition, points, [cluster for _, cluster in sorted(sizes)])
    return len(sizes)


def dissolve(partition: Partition, points: np.ndarray, clusters: list[int]) -> None:
    """Give each member to the linked cluster of best score, else to the nearest."""
    going = set(clusters)
    living, middles = centres(partition, points)
    staying = [place for place, cluster in enumerate(living) if cluster not in going]
    for cluster in clusters:
        for node in sorted(partition.members[cluster]):
            links = partition.links(node)
            gains = [
                (gain, -target)
                for target, gain in partition.move_gains(node, links).items()
                if target not in going
            ]
            if gains:
                target = -max(gains)[1]
            else:
                apart = np.sum((middles[staying] - points[node]) ** 2, axis=1)
                target = living[staying[int(np.argmin(apart))]]
            partition.move(node, target, links)


def centres(partition: Partition, points: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Numbers of the clusters that have members, and their means (C, G)."""
    living, labels = np.unique(partition.labels, return_inverse=True)
    return living.tolist(), means(points, labels, len(living))


def means(rows: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Means (C, D) of the rows (N, D) of each label."""
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums / np.bincount(labels, minlength=count)[:, None]
