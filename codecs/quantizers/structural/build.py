# SPDX-License-Identifier: Apache-2.0
"""A codebook from latents by structural entropy: sample, graph, search, search.

    latents (N, D) ─► sample ─► centre, scale ─► k-NN graph ─► clusters
                                                                     │
        code vectors: means of the clusters   ◄──────────────────────┤
        frozen graph: V, I of each, vol, anchors  ◄──────────────────┘

The frozen graph is what new frames are scored against; see `structural`. The
anchors of a code are half its nodes nearest to their mean, half random others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from polycodec.codecs.quantizers.structural import search
from polycodec.codecs.quantizers.structural.graph import (
    neighbour_graph,
    sample_frames,
)
from polycodec.errors import InputError


@dataclass(frozen=True)
class BuildOptions:
    """How a structural codebook is built; the number of codes is a result.

    neighbours: k of the graph; fewer make more codes, as do more ``frames``. gap:
    frames that close in time are never linked. cap: the most codes, 0 for no limit.
    least: nodes of a code. anchors: the most of a code.
    """

    neighbours: int = 4
    frames: int = 8000
    gap: int = 2
    cap: int = 0
    least: int = 3
    anchors: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Frozen:
    """A built codebook: K codes, A anchors, D dimensions.

    vectors (K, D); the graph's view of a latent x is (x - mean) @ basis, basis
    (D, D); anchors (A, D) with owners (A,) their codes and scales (A,); volumes and
    inners (K,); total, degree: the graph's volume and mean degree. All float64.
    """

    vectors: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    anchors: np.ndarray
    owners: np.ndarray
    scales: np.ndarray
    volumes: np.ndarray
    inners: np.ndarray
    total: float
    degree: float
    rows: np.ndarray = field(repr=False)  # (N',) the latents the graph was made of
    labels: np.ndarray = field(repr=False)  # (N',) their codes
    report: dict[str, float] = field(default_factory=dict)


def build_codebook(latents: np.ndarray, options: BuildOptions) -> Frozen:
    """Build from latents (N, D), in order of time; equal input gives equal results.

    InputError for latents that are not finite, not (N, D), too few, or never alike.
    """
    latents = np.asarray(latents, np.float64)
    _check(latents, options)
    picked = sample_frames(latents, options.frames, options.seed)
    mean, basis = centre_and_scale(latents[picked])
    points = (latents[picked] - mean) @ basis
    graph, scales = neighbour_graph(points, options.neighbours, picked, gap=options.gap)
    graph, kept = graph.without_isolated()
    if not graph.nodes:
        raise InputError("no two latents are alike; expected frames of real signals")
    points, rows, scales = points[kept], picked[kept], scales[kept]
    partition = search.minimise(graph)
    report = _tidy(partition, points, options)
    report |= {"nodes": graph.nodes, "edges": len(graph.weights) // 2}
    labels = search.numbered(partition)
    codes = int(labels.max()) + 1
    anchors = choose_anchors(points, labels, options.anchors, options.seed)
    order = [partition.labels[int(np.argmax(labels == c))] for c in range(codes)]
    return Frozen(
        vectors=search.means(latents[rows], labels, codes),
        mean=mean,
        basis=basis,
        anchors=points[anchors],
        owners=labels[anchors],
        scales=scales[anchors],
        volumes=np.array(partition.volumes)[order],
        inners=np.array(partition.inners)[order],
        total=partition.total,
        degree=partition.total / graph.nodes,
        rows=rows,
        labels=labels,
        report=report
        | {"codes": codes, "h1": partition.one_level}
        | {"h2": partition.two_level},
    )


def centre_and_scale(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and basis (D, D): the graph's view of x is (x - mean) @ basis.

    One scale for all dimensions: their proportions are kept.
    """
    deviation = np.sqrt(np.mean(latents.std(axis=0) ** 2))
    return latents.mean(axis=0), np.eye(latents.shape[1]) / max(deviation, 1e-9)


def choose_anchors(
    points: np.ndarray, labels: np.ndarray, most: int, seed: int
) -> np.ndarray:
    """Rows (A,) that stand for their codes, at most ``most`` each, by code."""
    random = np.random.default_rng(seed)
    chosen = []
    for code in range(int(labels.max()) + 1):
        rows = np.flatnonzero(labels == code)
        if len(rows) > most:
            apart = np.sum((points[rows] - points[rows].mean(axis=0)) ** 2, axis=1)
            rows = rows[np.argsort(apart, kind="stable")]
            near, far = rows[: (most + 1) // 2], rows[(most + 1) // 2 :]
            rows = np.concatenate([near, random.permutation(far)[: most // 2]])
        chosen.append(np.sort(rows))
    return np.concatenate(chosen)


def _tidy(
    partition: search.Partition, points: np.ndarray, options: BuildOptions
) -> dict[str, float]:
    found = partition.clusters
    merged = search.disentangle(partition, points)
    dissolved = search.dissolve_small(partition, points, options.least)
    if options.cap and partition.clusters > options.cap:
        search.cap(partition, points, options.cap)
    return {"found": found, "merged": merged, "dissolved": dissolved}


def _check(latents: np.ndarray, options: BuildOptions) -> None:
    if latents.ndim != 2 or not np.isfinite(latents).all():
        raise InputError(
            f"latents of shape {latents.shape} must be finite and (N, D); check the "
            "encoder they come from"
        )
    if len(latents) < 2 * options.neighbours + 2 * options.gap + 2:
        raise InputError(
            f"{len(latents)} latents are too few for a graph of k = "
            f"{options.neighbours}; give some thousands"
        )
