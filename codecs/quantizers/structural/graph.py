# SPDX-License-Identifier: Apache-2.0
"""Nearest-neighbour graphs of latent vectors, symmetric and sparse.

    frames -> sample -> centre, scale -> k nearest of each -> union -> weights
                                          │
                    never: itself, neighbours in time, repeated silence

Weights are cosines (negative ones are no edge), or self-tuning exp(-d²/(s_i s_j))
with s the distance to the k-th neighbour (Zelnik-Manor and Perona, NIPS 2004).
Similarities are blocked matrix products in float64; ties go to the lower index.
No torch here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polycodec.errors import InputError

KINDS = ("cosine", "self-tuning")
BLOCK = 512  # rows of similarities at a time: 512 × 20,000 float64 are 80 MB
RUN = 64  # columns whose maximum is looked at first
Progress = Callable[[str, int, int], None]


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


def sample_frames(
    vectors: np.ndarray,
    count: int,
    *,
    silent: np.ndarray | None = None,
    share: float = 0.05,
    seed: int = 0,
) -> np.ndarray:
    """Choose rows to build from, ascending (n,) int64, n <= count.

    Rows that repeat another exactly (digital silence) are kept once; rows marked in
    ``silent`` (N,) bool are at most ``share`` of the sample: silence would otherwise
    be one giant cluster.
    """
    _, first = np.unique(vectors, axis=0, return_index=True)
    rows = np.random.default_rng(seed).permutation(np.sort(first))
    if silent is not None:
        quiet, loud = rows[silent[rows]], rows[~silent[rows]]
        most = int(share * min(count, len(rows)))
        quiet = quiet[:most]
        rows = np.concatenate([quiet, loud[: count - len(quiet)]])
    return np.sort(rows[:count])


def neighbour_graph(
    vectors: np.ndarray,
    k: int,
    *,
    kind: str = "cosine",
    times: np.ndarray | None = None,
    gap: int = 2,
    progress: Progress | None = None,
) -> tuple[Graph, np.ndarray]:
    """Link every vector (N, D) with its ``k`` nearest; also returns scales (N,).

    Rows whose ``times`` (N,) int differ by no more than ``gap`` are never linked:
    overlapping frames would be each other's neighbours whatever they sound like.
    Scales are the distances s of self-tuning weights, ones for cosine.
    """
    count = len(vectors)
    if kind not in KINDS:
        raise InputError(f"unknown graph '{kind}'; expected one of {', '.join(KINDS)}")
    if not 1 <= k < count:
        raise InputError(f"a graph of {count} frames cannot have k = {k} neighbours")
    points = unit(vectors) if kind == "cosine" else np.asarray(vectors, np.float64)
    near, values = _nearest(points, k, kind, times, gap, progress)
    scales = np.ones(count)
    if kind == "self-tuning":
        # values are negative squared distances, the k-th neighbour last
        farthest = np.where(np.isfinite(values), -values, 0.0).max(axis=1)
        scales = np.sqrt(np.maximum(farthest, 1e-24))
    rows = np.repeat(np.arange(count), k)
    columns, flat = near.ravel(), values.ravel()
    if kind == "self-tuning":
        flat = np.exp(flat / (scales[rows] * scales[columns]))
    on = np.isfinite(values.ravel())  # fewer than k allowed neighbours: -inf
    return Graph.from_edges(count, rows[on], columns[on], flat[on]), scales


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float64; zero rows stay zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def _nearest(
    points: np.ndarray,
    k: int,
    kind: str,
    times: np.ndarray | None,
    gap: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns of each row and their similarities, best first."""
    count = len(points)
    near, values = np.empty((count, k), np.int64), np.empty((count, k))
    squares = np.sum(points * points, axis=1)
    order = None if times is None else np.argsort(times, kind="stable")
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        likeness = points[start:stop] @ points.T
        if kind == "self-tuning":
            likeness *= 2
            likeness -= squares[start:stop, None]
            likeness -= squares
            np.minimum(likeness, 0.0, out=likeness)
        if order is not None:
            likeness[_close_in_time(times, order, start, stop, gap)] = -np.inf
        likeness[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        near[start:stop], values[start:stop] = greatest(likeness, k)
        if progress:
            progress("graph", stop, count)
    return near, values


def greatest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (R, k) of the k greatest values of each row and these, best first.

    They lie in the k runs of columns of greatest maxima, so only those are sorted:
    five times faster than partitioning whole rows of 20,000.
    """
    rows, count = values.shape
    runs = -(-count // RUN)
    if runs > k:
        padded = np.full((rows, runs * RUN), -np.inf)
        padded[:, :count] = values
        cells = padded.reshape(rows, runs, RUN)
        chosen = np.argpartition(cells.max(axis=2), runs - k, axis=1)[:, runs - k :]
        columns = (chosen[:, :, None] * RUN + np.arange(RUN)).reshape(rows, k * RUN)
        values = np.take_along_axis(padded, columns, axis=1)
    else:
        columns = np.broadcast_to(np.arange(count), values.shape)
    last = values.shape[1] - k
    best = np.argpartition(values, last, axis=1)[:, last:]
    values = np.take_along_axis(values, best, axis=1)
    columns = np.take_along_axis(columns, best, axis=1)
    order = np.lexsort((columns, -values), axis=1)
    take = np.take_along_axis
    return take(columns, order, axis=1), take(values, order, axis=1)


def _close_in_time(
    times: np.ndarray, order: np.ndarray, start: int, stop: int, gap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row (from ``start``) and column numbers of the pairs too close in time."""
    ordered = times[order]
    first = np.searchsorted(ordered, times[start:stop] - gap, "left")
    last = np.searchsorted(ordered, times[start:stop] + gap, "right")
    lengths = last - first
    rows = np.repeat(np.arange(stop - start), lengths)
    offsets = np.arange(lengths.sum()) - np.repeat(
        np.cumsum(lengths) - lengths, lengths
    )
    return rows, order[np.repeat(first, lengths) + offsets]
