# SPDX-License-Identifier: Apache-2.0
"""Structural entropy of a graph, and what merging clusters and moving nodes change.

How many bits a step of a random walk costs when its address is (cluster, node):

    H1 = log vol - (1/vol) Σ_i d_i log d_i                       no clusters
    H2 = H1 - D,   D = (1/vol) Σ_c I_c log(vol / V_c)            with clusters

V_c is the volume of cluster c (sum of its nodes' degrees), I_c twice the edge
weight inside it. Minimising H2 is maximising D, to which a cluster contributes
f(I, V) = I log(vol / V): two numbers per cluster are all that a search needs. The
sums of I and I log V are kept, so every value is exact after each operation, in
float64. Logs are base 2.

A. Li, Y. Pan, "Structural Information and Dynamical Complexity of Networks", IEEE
Transactions on Information Theory 62, 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2

import numpy as np

from polycodec.codecs.quantizers.structural.graph import Graph
from polycodec.errors import InputError


class Partition:
    """A graph, its clusters, and H2 that stays exact under every operation.

    Clusters are numbered; one that became empty keeps its number with volume 0.
    ``labels`` (N), ``volumes``, ``inners`` and ``logs`` = log V (C) are plain lists:
    the searches read them in tight loops. ``one_level``: H1 in bits. InputError for a
    graph that has a node without edges.
    """

    def __init__(self, graph: Graph, labels: Sequence[int] | None = None) -> None:
        degrees = graph.degrees
        if not graph.nodes or degrees.min() <= 0:
            raise InputError(
                "the graph has a node without edges; expected every degree above 0; "
                "drop such nodes first"
            )
        count = graph.nodes
        self.labels = list(range(count)) if labels is None else [int(v) for v in labels]
        clusters = max(self.labels) + 1
        self.degrees: list[float] = degrees.tolist()
        self.adjacent: list[dict[int, float]] = graph.adjacency()
        self.volumes, self.inners = [0.0] * clusters, [0.0] * clusters
        self.members: list[set[int]] = [set() for _ in range(clusters)]
        for node, label in enumerate(self.labels):
            self.volumes[label] += self.degrees[node]
            self.members[label].add(node)
            self.inners[label] += self.links(node).get(label, 0.0)
        self.logs = [log2(volume) if volume > 0 else 0.0 for volume in self.volumes]
        self.total = float(degrees.sum())
        logs = float(np.sum(degrees * np.log2(degrees)))
        self.one_level = log2(self.total) - logs / self.total
        self._inner_sum = sum(self.inners)
        self._inner_logs = sum(
            inner * log for inner, log in zip(self.inners, self.logs, strict=True)
        )

    @property
    def clusters(self) -> int:
        """How many clusters have members."""
        return sum(1 for members in self.members if members)

    @property
    def decoding(self) -> float:
        """D in bits: what the clusters save."""
        return (self._inner_sum * log2(self.total) - self._inner_logs) / self.total

    @property
    def two_level(self) -> float:
        """H2 in bits."""
        return self.one_level - self.decoding

    def links(self, node: int) -> dict[int, float]:
        """Edge weight from ``node`` to each cluster it touches, itself left out."""
        weights: dict[int, float] = {}
        labels = self.labels
        for other, weight in self.adjacent[node].items():
            label = labels[other]
            weights[label] = weights.get(label, 0.0) + weight
        return weights

    def cut(self, a: int, b: int) -> float:
        """Edge weight between the clusters ``a`` and ``b``."""
        if len(self.members[a]) > len(self.members[b]):
            a, b = b, a
        inside, total = self.members[b], 0.0
        for node in sorted(self.members[a]):
            for other, weight in self.adjacent[node].items():
                total += weight if other in inside else 0.0
        return total

    def merge_gains(self, a: int, cuts: Mapping[int, float]) -> dict[int, float]:
        """H2 before minus after joining ``a`` with each cluster in ``cuts``, bits."""
        volumes, inners, logs, total = self.volumes, self.inners, self.logs, self.total
        va, ia, whole = volumes[a], inners[a], log2(total)
        fa, gains = ia * (whole - logs[a]), {}
        for b, cut in cuts.items():
            joined = (ia + inners[b] + 2 * cut) * (whole - log2(va + volumes[b]))
            gains[b] = (joined - fa - inners[b] * (whole - logs[b])) / total
        return gains

    def move_gains(self, node: int, links: Mapping[int, float]) -> dict[int, float]:
        """H2 before minus after ``node`` leaves its cluster for each in ``links``.

        links: as from `links`; its own cluster has no entry in the result.
        """
        volumes, inners, logs, total = self.volumes, self.inners, self.logs, self.total
        source, d, whole = self.labels[node], self.degrees[node], log2(total)
        inner, volume = inners[source] - 2 * links.get(source, 0.0), volumes[source] - d
        leave, gains = -inners[source] * (whole - logs[source]), {}
        if len(self.members[source]) > 1:
            leave += inner * (whole - log2(volume))
        for t, weight in links.items():
            if t != source:
                joined = (inners[t] + 2 * weight) * (whole - log2(volumes[t] + d))
                gain = leave + joined - inners[t] * (whole - logs[t])
                gains[t] = gain / total
        return gains

    def merge(self, a: int, b: int, cut: float) -> None:
        """Join cluster ``b`` into ``a``; ``cut`` is the weight between them."""
        inner = self.inners[a] + self.inners[b] + 2 * cut
        volume = self.volumes[a] + self.volumes[b]
        self._put(b, 0.0, 0.0)
        self._put(a, inner, volume)
        for node in self.members[b]:
            self.labels[node] = a
        self.members[a] |= self.members[b]
        self.members[b] = set()

    def move(self, node: int, target: int, links: Mapping[int, float]) -> None:
        """Take ``node`` to the cluster ``target``; ``links`` as from `links`."""
        source, d = self.labels[node], self.degrees[node]
        if source == target:
            return
        self.members[source].remove(node)
        self.members[target].add(node)
        self.labels[node] = target
        # None left, or one without inner edges: exactly zero, whatever the rounding.
        left = len(self.members[source])
        inner = self.inners[source] - 2 * links.get(source, 0.0) if left > 1 else 0.0
        self._put(source, inner, self.volumes[source] - d if left else 0.0)
        gained = 2 * links.get(target, 0.0)
        self._put(target, self.inners[target] + gained, self.volumes[target] + d)

    def _put(self, cluster: int, inner: float, volume: float) -> None:
        """Set a cluster's two numbers and keep the sums that H2 is made of."""
        self._inner_sum += inner - self.inners[cluster]
        self._inner_logs -= self.inners[cluster] * self.logs[cluster]
        log = log2(volume) if volume > 0 else 0.0
        self._inner_logs += inner * log
        self.inners[cluster], self.volumes[cluster] = inner, volume
        self.logs[cluster] = log
