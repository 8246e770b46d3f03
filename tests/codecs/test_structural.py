# SPDX-License-Identifier: Apache-2.0
"""Structural entropy: exact values, exact searches, and the codebook they build."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.codecs.quantizers.structural.build import (
    BuildOptions,
    build_codebook,
    centre_and_scale,
    choose_anchors,
)
from polycodec.codecs.quantizers.structural.entropy import Partition
from polycodec.codecs.quantizers.structural.graph import (
    Graph,
    neighbour_graph,
    sample_frames,
)
from polycodec.codecs.quantizers.structural.search import (
    best_move,
    cap,
    disentangle,
    dissolve_small,
    merge_greedily,
    minimise,
    move_nodes,
    numbered,
)
from polycodec.errors import InputError, UnknownNameError
from polycodec.registry import build


def entropies(graph: Graph, labels: np.ndarray) -> tuple[float, float]:
    """H1 and H2 in bits, from their definitions: what is incremental must agree."""
    degrees, total = graph.degrees, graph.degrees.sum()
    linked = degrees > 0
    h1 = -float(np.sum(degrees[linked] / total * np.log2(degrees[linked] / total)))
    h2 = 0.0
    for label in np.unique(labels):
        inside = labels == label
        volume = degrees[inside].sum()
        if volume == 0:
            continue
        rows = inside[graph.sources]
        cut = graph.weights[rows & ~inside[graph.targets]].sum()
        own = degrees[inside & linked]
        h2 -= cut / total * np.log2(volume / total)
        h2 -= float(np.sum(own / total * np.log2(own / volume)))
    return h1, float(h2)


def planted(seed: int) -> tuple[Graph, np.ndarray]:
    """8 blocks of 50 nodes; edges with probability 0.3 inside, 0.01 between."""
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(8), 50)
    chance = np.where(blocks[:, None] == blocks, 0.3, 0.01)
    a, b = np.nonzero(np.triu(rng.random((400, 400)) < chance, 1))
    return Graph.from_edges(400, a, b, np.ones(len(a))), blocks


def random_graph(seed: int, nodes: int = 60) -> Graph:
    """A connected graph with random weights."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(nodes), rng.integers(0, nodes, 3 * nodes)])
    b = np.concatenate(
        [(np.arange(nodes) + 1) % nodes, rng.integers(0, nodes, 3 * nodes)]
    )
    return Graph.from_edges(nodes, a, b, rng.random(len(a)) + 0.05)


def rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985)."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    rows, columns = pairs(table.sum(1)), pairs(table.sum(0))
    chance = rows * columns / pairs(np.array([len(a)]))
    return (pairs(table) - chance) / ((rows + columns) / 2 - chance)


@pytest.mark.parametrize("seed", range(5))
def test_planted_partition_is_found(seed: int) -> None:
    graph, blocks = planted(seed)
    partition = minimise(graph)
    assert partition.clusters == 8
    assert rand_index(numbered(partition), blocks) == 1.0


def test_entropy_of_two_triangles_by_hand() -> None:
    # Two triangles joined by one edge: vol 14, V = 7 each, one edge cut.
    edges = np.array([(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)])
    graph = Graph.from_edges(6, edges[:, 0], edges[:, 1], np.ones(7))
    h1, h2 = entropies(graph, np.array([0, 0, 0, 1, 1, 1]))
    assert h1 == pytest.approx(4 * 2 / 14 * np.log2(7) + 2 * 3 / 14 * np.log2(14 / 3))
    inside = 4 * 2 / 14 * np.log2(7 / 2) + 2 * 3 / 14 * np.log2(7 / 3)
    assert h2 == pytest.approx(2 * 1 / 14 * 1 + inside)


def test_value_is_exact_after_each_of_a_thousand_operations() -> None:
    rng = np.random.default_rng(3)
    graph, partition = random_graph(3), None
    done = {"merge": 0, "move": 0}
    for step in range(1000):
        if partition is None or partition.clusters < 5:  # few are left: begin again
            partition = Partition(graph, rng.integers(0, 25, 60).tolist())
        before = partition.two_level
        living = [c for c, members in enumerate(partition.members) if members]
        kind = "merge" if step % 8 == 0 else "move"
        if kind == "merge":
            a, b = (int(v) for v in rng.choice(living, 2, replace=False))
            cut = partition.cut(a, b)
            gain = partition.merge_gains(a, {b: cut})[b]
            partition.merge(a, b, cut)
        else:
            node, target = int(rng.integers(60)), int(rng.choice(living))
            links = partition.links(node)
            gain = partition.move_gains(node, {target: 0.0} | links).get(target, 0.0)
            partition.move(node, target, links)
        done[kind] += 1
        h1, h2 = entropies(graph, np.array(partition.labels))
        assert partition.two_level == pytest.approx(h2, abs=1e-9)
        assert partition.one_level == pytest.approx(h1, abs=1e-9)
        assert before - partition.two_level == pytest.approx(gain, abs=1e-9)
    assert min(done.values()) > 100


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_differences_of_brute_force_values(seed: int) -> None:
    """What a frame's code is chosen by, against whole graphs with the frame in them."""
    rng = np.random.default_rng(seed)
    graph, labels = random_graph(seed), rng.integers(0, 6, 60)
    nodes = rng.choice(60, 5, replace=False)
    weights = rng.random(5) + 0.1
    start = Partition(graph, labels.tolist())
    book = build("quantizer/structural", channels=3, levels=1, codes=2).books[0]
    book.resize(6, 60)
    book.volumes.copy_(torch.tensor(start.volumes))
    book.inners.copy_(torch.tensor(start.inners))
    book.graph[0] = start.total
    links, codes = torch.from_numpy(weights).float(), torch.from_numpy(labels[nodes])
    book._links = lambda rows: (links[None], codes[None])
    (scores,), (owners,) = book.scores(torch.zeros(1, 3))

    def value(label: int) -> float:
        """Volume times H2 of the graph with the frame as its node 60."""
        once = graph.sources < graph.targets
        grown = Graph.from_edges(
            61,
            np.concatenate([graph.sources[once], nodes]),
            np.concatenate([graph.targets[once], np.full(5, 60)]),
            np.concatenate([graph.weights[once], weights]),
        )
        total = grown.degrees.sum()
        assert total == pytest.approx(start.total + 2 * weights.sum())
        return float(total * entropies(grown, np.append(labels, label))[1])

    alone = value(99)
    assert set(owners.tolist()) == set(labels[nodes].tolist())
    for score, owner in zip(scores.tolist(), owners.tolist(), strict=True):
        assert score == pytest.approx(alone - value(owner), abs=1e-3)
    assert book.nearest(torch.zeros(1, 3)).item() == owners[scores.argmax()]


def test_merging_stops_where_no_pair_and_moving_where_no_node_gains() -> None:
    partition = Partition(random_graph(5))
    merge_greedily(partition)
    labels = sorted(set(partition.labels))
    gains = [
        partition.merge_gains(a, {b: partition.cut(a, b)})[b]
        for a in labels
        for b in labels
        if a < b and partition.cut(a, b) > 0
    ]
    assert max(gains) <= 1e-12
    move_nodes(partition)
    for node in range(60):
        assert best_move(partition, node, partition.links(node))[0] == 0


def test_greedy_order_is_that_of_trying_all_pairs() -> None:
    heap, plain = Partition(random_graph(6, 24)), Partition(random_graph(6, 24))
    merge_greedily(heap)
    while True:
        living = sorted(set(plain.labels))
        tried = [
            (plain.merge_gains(a, {b: plain.cut(a, b)})[b], -a, -b)
            for a in living
            for b in living
            if a < b
        ]
        if not tried or max(tried)[0] <= 1e-12:
            break
        _, a, b = max(tried)
        plain.merge(-a, -b, plain.cut(-a, -b))
    assert rand_index(numbered(heap), numbered(plain)) == 1.0
    assert heap.two_level == pytest.approx(plain.two_level, abs=1e-12)


def test_neighbour_graph_agrees_with_all_pairs() -> None:
    rng = np.random.default_rng(1)
    points, times = rng.standard_normal((1300, 8)), np.arange(1300) * 3 // 2
    graph, scales = neighbour_graph(points, 3, times, gap=2)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    far = np.where(np.abs(times[:, None] - times) <= 2, np.inf, apart)
    near = np.argsort(far, axis=1)[:, :3]
    wanted = {(i, int(j)) for i in range(1300) for j in near[i]}
    wanted |= {(j, i) for i, j in wanted}
    assert set(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True)) == (
        wanted
    )
    s, t = graph.sources, graph.targets
    assert np.allclose(scales, np.sort(far, axis=1)[:, 2])
    assert np.allclose(
        graph.weights, np.exp(-(apart[s, t] ** 2) / scales[s] / scales[t])
    )


def test_a_sample_keeps_repeats_once() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1000, 4))
    rows[100:300] = rows[100]
    picked = sample_frames(rows, 400)
    assert len(picked) == 400 and (np.diff(picked) > 0).all()
    assert ((picked >= 100) & (picked < 300)).sum() <= 1
    assert len(sample_frames(rows, 5000)) == 801


def test_isolated_nodes_are_dropped_and_refused() -> None:
    graph = Graph.from_edges(4, np.array([0]), np.array([2]), np.array([1.0]))
    with pytest.raises(InputError, match="without edges"):
        Partition(graph)
    smaller, kept = graph.without_isolated()
    assert kept.tolist() == [0, 2] and smaller.nodes == 2
    assert smaller.targets.tolist() == [1, 0]


def test_tidying_merges_twins_dissolves_crumbs_and_caps() -> None:
    graph, blocks = planted(2)
    points = np.random.default_rng(0).standard_normal((400, 3)) * 0.01
    points += np.linspace(0, 80, 8)[blocks][:, None]
    halves = blocks * 2 + np.tile([0, 1], 200)  # each block cut in two equal halves
    partition = Partition(graph, halves.tolist())
    assert disentangle(partition, points, close=1e4, slack=0.0) == 8
    assert rand_index(numbered(partition), blocks) == 1.0
    node = sorted(partition.members[partition.labels[0]])[0]
    crumb = Partition(graph, np.where(np.arange(400) == node, 8, blocks).tolist())
    assert dissolve_small(crumb, points, 3) == 1
    assert rand_index(numbered(crumb), blocks) == 1.0
    cap(crumb, points, 5)
    assert crumb.clusters == 5
    assert entropies(graph, np.array(crumb.labels))[1] == pytest.approx(crumb.two_level)


def frames(count: int = 1500) -> np.ndarray:
    """Latents around 60 centres."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((60, 12)) * 3
    return centres[rng.integers(0, 60, count)] + rng.standard_normal((count, 12))


def test_build_is_reproducible() -> None:
    options = BuildOptions(frames=700, seed=3)
    a = build_codebook(frames(), options)
    b = build_codebook(frames(), options)
    for name in ("vectors", "anchors", "owners", "volumes", "inners", "labels"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
    other = build_codebook(frames(), BuildOptions(frames=700, seed=4))
    assert other.rows.tolist() != a.rows.tolist()


def test_built_codebook_describes_its_graph() -> None:
    z = frames()
    found = build_codebook(z, BuildOptions(frames=700))
    codes = len(found.vectors)
    assert found.report["codes"] == codes > 10
    assert np.bincount(found.labels).min() >= 3
    mean = z[found.rows[found.labels == 1]].mean(0)
    assert np.allclose(found.vectors[1], mean)
    assert found.total == pytest.approx(found.volumes.sum())
    assert (found.inners <= found.volumes + 1e-9).all()
    assert set(found.owners.tolist()) == set(range(codes))
    assert np.bincount(found.owners).max() <= 32


def test_fewer_neighbours_make_more_codes() -> None:
    few, many = (
        build_codebook(frames(), BuildOptions(frames=700, neighbours=k))
        for k in (3, 12)
    )
    assert len(few.vectors) > len(many.vectors)


def test_anchors_are_near_the_mean_and_elsewhere() -> None:
    points = np.random.default_rng(0).standard_normal((200, 2))
    chosen = choose_anchors(points, np.zeros(200, np.int64), 10, 0)
    apart = np.linalg.norm(points - points.mean(0), axis=1)
    assert len(set(chosen.tolist())) == 10
    assert set(np.argsort(apart)[:5].tolist()) <= set(chosen.tolist())


def test_scaling_keeps_proportions() -> None:
    z = frames() * np.linspace(0.5, 3, 12)
    mean, basis = centre_and_scale(z)
    points = (z - mean) @ basis
    assert np.sqrt(np.mean(points.std(0) ** 2)) == pytest.approx(1)
    ratio = points.std(0) / z.std(0)
    assert np.allclose(ratio, ratio[0])


@pytest.mark.parametrize(
    ("latents", "options", "message"),
    [
        (np.full((100, 3), np.nan), BuildOptions(), "finite"),
        (np.zeros((4, 3)), BuildOptions(), "too few"),
        (np.ones((90, 3)), BuildOptions(), "k = 4"),
    ],
)
def test_bad_input_is_named(latents, options, message) -> None:
    with pytest.raises(InputError, match=message):
        build_codebook(latents, options)


@pytest.mark.parametrize("option", ["graph", "method", "equal"])
def test_options_of_earlier_versions_are_refused_by_name(option) -> None:
    with pytest.raises(UnknownNameError, match=f"'{option}'"):
        build("quantizer/structural", channels=4, **{option: "cosine"})
