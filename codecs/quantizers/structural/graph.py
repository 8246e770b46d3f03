# SPDX-License-Identifier: Apache-2.0
"""Nearest-neighbour graphs of latent vectors, symmetric and sparse.

    frames -> sample -> centre, scale -> k nearest of each -> union -> weights
                                          │
                    never: itself, neighbours in time, repeated silence

Weights are exp(-d²/(s_i s_j)) with s the distance to the k-th neighbour (Zelnik-Manor
and Perona, "Self-tuning spectral clustering", NIPS 2004). Distances are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polycodec.errors import InputError

BLOCK = 512  # rows of distances at a time: 512 × 20,000 float64 are 80 MB


@dataclass(frozen=True)
class Graph:
    """Symmetric weighted graph; every edge is stored in both directions.

    sources, targets (2E,) int64, sorted by source then target; weights (2E,) float64.
    """

    nodes: int
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_edges(
        cls, nodes: int, a: np.ndarray, b: np.ndarray, weights: np.ndarray
    ) -> Graph:
        """Make a graph of undirected edges; repeated ones count once, loops never."""
        a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
        on = (a != b) & (np.asarray(weights) > 0)
        low, high = np.minimum(a, b)[on], np.maximum(a, b)[on]
        _, first = np.unique(low * nodes + high, return_index=True)
        low, high = low[first], high[first]
        kept = np.asarray(weights, np.float64)[on][first]
        sources, targets = np.concatenate([low, high]), np.concatenate([high, low])
        order = np.lexsort((targets, sources))
        doubled = np.concatenate([kept, kept])
        return cls(nodes, sources[order], targets[order], doubled[order])

    @property
    def degrees(self) -> np.ndarray:
        """Sum of the edge weights of each node, (N,) float64."""
        return np.bincount(self.sources, self.weights, self.nodes)

    def adjacency(self) -> list[dict[int, float]]:
        """The neighbours of each node with their weights, as dictionaries."""
        rows: list[dict[int, float]] = [{} for _ in range(self.nodes)]
        triples = (self.sources.tolist(), self.targets.tolist(), self.weights.tolist())
        for a, b, weight in zip(*triples, strict=True):
            rows[a][b] = weight
        return rows

    def without_isolated(self) -> tuple[Graph, np.ndarray]:
        """Drop nodes without edges; also returns the numbers of the kept, (N',)."""
        kept = np.flatnonzero(self.degrees > 0)
        new = np.full(self.nodes, -1, np.int64)
        new[kept] = np.arange(len(kept))
        s, t = new[self.sources], new[self.targets]
        return Graph(len(kept), s, t, self.weights), kept


def sample_frames(vectors: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Choose rows to build from, ascending (n,) int64, n <= count.

    Rows that repeat another exactly (digital silence) are kept once.
    """
    _, first = np.unique(vectors, axis=0, return_index=True)
    rows = np.random.default_rng(seed).permutation(np.sort(first))
    return np.sort(rows[:count])


def neighbour_graph(
    points: np.ndarray,
    k: int,
    times: np.ndarray,
    *,
    gap: int = 2,
) -> tuple[Graph, np.ndarray]:
    """Link every point (N, G) with its ``k`` nearest; also returns scales (N,).

    ``times`` (N,) int, ascending: points that differ by no more than ``gap`` are never
    linked, for overlapping frames would be neighbours whatever they sound like.
    Scales are the distances s of the weights. InputError unless 1 <= k < N.
    """
    count = len(points)
    if not 1 <= k < count:
        raise InputError(
            f"a graph of {count} frames cannot have k = {k} neighbours; expected 1 to "
            f"{count - 1}; give more frames, or a smaller k"
        )
    points = np.asarray(points, np.float64)
    near, squares = _nearest(points, k, times, gap)
    farthest = np.where(np.isfinite(squares), squares, 0.0).max(axis=1)
    scales = np.sqrt(np.maximum(farthest, 1e-24))
    rows = np.repeat(np.arange(count), k)
    columns, flat = near.ravel(), squares.ravel()
    on = np.isfinite(flat)  # fewer than k allowed neighbours: inf
    weights = np.exp(-flat / (scales[rows] * scales[columns]))
    return Graph.from_edges(count, rows[on], columns[on], weights[on]), scales


def _nearest(
    points: np.ndarray, k: int, times: np.ndarray, gap: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest columns of each row and their squared distances, nearest first."""
    every, near, apart = torch.from_numpy(points), [], []
    first = np.searchsorted(times, times - gap, "left")
    last = np.searchsorted(times, times + gap, "right")
    for start in range(0, len(points), BLOCK):
        squares = torch.cdist(every[start : start + BLOCK], every).square_()
        for row, cells in enumerate(squares, start):  # itself and what is close in time
            cells[first[row] : last[row]] = torch.inf
        values, columns = squares.topk(k, largest=False)
        near.append(columns)
        apart.append(values)
    return torch.cat(near).numpy(), torch.cat(apart).numpy()
