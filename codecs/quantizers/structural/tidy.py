# SPDX-License-Identifier: Apache-2.0
"""What a codebook needs after the search: codes apart, none tiny, not too many.

    near-equal codes ─► merged      closer than 0.25 × the median nearest-code
                                    distance, if H2 grows by no more than 1e-3 bits
    too many codes   ─► merged      linked pairs at the least loss
    tiny codes       ─► dissolved   each member joins the code of best score

Every step changes the partition through its exact operations, so that its entropy
stays known. Ties go to the lower index.
"""

from __future__ import annotations

import numpy as np
import torch

from polycodec.codecs.quantizers.structural.entropy import Partition
from polycodec.codecs.quantizers.structural.search import merge_greedily

CLOSE = 0.25  # of the median distance between nearest codes
SLACK = 1e-3  # bits of structural entropy that one merge of near-equals may cost


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
