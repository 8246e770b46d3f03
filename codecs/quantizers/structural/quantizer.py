# SPDX-License-Identifier: Apache-2.0
"""A codebook found by structural entropy: its number of codes is a result.

    built once      latents ─► k-NN graph ─► clusters of least entropy ─► code vectors
    then frozen     V_t, I_t, vol, up to 32 anchors a code

    a frame x       its q nearest anchors, weighted as edges were, scaled to the mean
                    degree d, give w_t;  vol' = vol + 2d
                    token = argmax_t 2 w_t log vol'/(V_t+w_t+d)
                                     - I_t log (V_t+w_t+d)/(V_t+w_t)

That is what joining cluster t saves when x becomes a node of the graph. Every frame
is scored against the same frozen graph, so all are coded in parallel and in any
order; a decoder needs the code vectors only. Those follow running means while
training, and ordinary residual levels refine them. SECodec (arXiv 2501.00018) is
the idea; its paper gives no constants, so the ones here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from polycodec.codecs.quantizers.residual import Codebook, ResidualQuantizer
from polycodec.codecs.quantizers.structural.build import (
    BuildOptions,
    Frozen,
    build_codebook,
)
from polycodec.errors import InputError, ModelError
from polycodec.registry import register

ASSIGN = ("se", "nearest")
ROWS = 4096  # frames scored at a time: 4096 × 8000 likenesses are 131 MB
FLOOR = 1e-3  # of a uniform share: the least weight of a code's past


class StructuralBook(Codebook):
    """One level: K vectors that follow their means, and the graph they come from.

    ``votes``: anchors q that a frame is linked with. Before :meth:`start` there is
    one code, the zero vector.
    """

    mean: Tensor
    basis: Tensor
    anchors: Tensor
    owners: Tensor
    scales: Tensor
    volumes: Tensor
    inners: Tensor
    graph: Tensor

    def __init__(
        self,
        channels: int,
        decay: float,
        *,
        codes: int = 1,
        anchors: int = 1,
        assign: str,
        votes: int,
        options: BuildOptions,
    ) -> None:
        super().__init__(codes, channels, decay)
        self.assign, self.votes, self.options = assign, votes, options
        self.vectors.zero_()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("basis", torch.zeros(channels, channels))
        self.register_buffer("anchors", torch.zeros(anchors, channels))
        self.register_buffer("owners", torch.zeros(anchors, dtype=torch.int32))
        self.register_buffer("scales", torch.ones(anchors))
        self.register_buffer("volumes", torch.ones(codes))
        self.register_buffer("inners", torch.zeros(codes))
        self.register_buffer("graph", torch.ones(2))  # vol, mean degree

    def resize(self, codes: int, anchors: int) -> None:
        """Make room for another number of codes and anchors; contents are lost."""
        for name in ("vectors", "mass", "volumes", "inners"):
            old = getattr(self, name)
            setattr(self, name, old.new_zeros(codes, *old.shape[1:]))
        for name in ("anchors", "owners", "scales"):
            old = getattr(self, name)
            setattr(self, name, old.new_zeros(anchors, *old.shape[1:]))

    @torch.no_grad()
    def start(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Find the codes in rows (N, D); returns the code of each row, (N,) int64."""
        latents = rows.detach().cpu().double().numpy()
        found = build_codebook(latents, self.options)
        self._take(found)
        # The graph stays, the vectors become the means of what is assigned by it.
        index = self.nearest(rows)
        count = torch.bincount(index, minlength=len(self.mass)).to(rows)
        sums = torch.zeros_like(self.vectors).index_add_(0, index, rows)
        chosen = count > 0
        self.vectors[chosen] = sums[chosen] / count[chosen, None]
        self.mass.copy_(count.clamp_min(1) / len(rows) * len(count))
        return self.nearest(rows)

    def _take(self, found: Frozen) -> None:
        self.resize(len(found.vectors), len(found.anchors))
        for name in ("mean", "basis", "anchors", "owners", "scales", "inners"):
            getattr(self, name).copy_(torch.from_numpy(getattr(found, name)))
        self.vectors.copy_(torch.from_numpy(found.vectors))
        self.volumes.copy_(torch.from_numpy(found.volumes))
        self.graph.copy_(torch.tensor([found.total, found.degree]))

    @property
    def scored(self) -> bool:
        """Whether codes are assigned by entropy, not by distance."""
        return self.assign != "nearest" and len(self.mass) > 1

    def nearest(self, rows: Tensor) -> Tensor:
        """Code (N,) of each of (N, D) rows, by entropy or by distance."""
        if not self.scored:
            return super().nearest(rows)
        parts = rows.split(ROWS) if len(rows) else [rows]
        return torch.cat([self._joined(part) for part in parts])

    def _joined(self, rows: Tensor) -> Tensor:
        """Code (N,) that each row saves most bits by joining."""
        score, owners = self.scores(rows)
        best = score.amax(1, keepdim=True)
        index = torch.where(score == best, owners, len(self.mass)).amin(1)
        # A row that is like no anchor at all has no edges: the nearest vector then.
        lost = best[:, 0] == -torch.inf
        return torch.where(lost, super().nearest(rows), index)

    def scores(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What rows (N, D) save by joining the codes of their q nearest anchors.

        Returns bits times the graph's volume with the row in it, (N, q), -inf where
        there is no edge; and the codes, (N, q) int64, some of them several times.
        """
        weights, owners = self._links(rows)
        same = owners[:, :, None] == owners[:, None, :]
        links = (weights[:, None, :] * same).sum(2)  # to the code of each anchor
        degree = weights.sum(1, keepdim=True)
        total = self.graph[0] + 2 * degree
        grown = self.volumes[owners] + links
        score = 2 * links * torch.log2(total / (grown + degree))
        score = score - self.inners[owners] * torch.log2((grown + degree) / grown)
        return torch.where(weights > 0, score, -torch.inf), owners

    def _links(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Edge weights (N, q) to the nearest anchors, and whose anchors they are."""
        points = (rows - self.mean) @ self.basis
        votes = min(self.votes, len(self.anchors))
        distances = torch.cdist(points, self.anchors)
        apart, place = distances.topk(votes, dim=1, largest=False)
        k = min(self.options.neighbours, votes)
        scale = apart[:, k - 1 : k].clamp_min(1e-12) * self.scales[place]
        weights = torch.exp(-apart.square() / scale.clamp_min(1e-24))
        degree = weights.sum(1, keepdim=True)
        weights = weights * (self.graph[1] / degree.clamp_min(1e-12))
        return weights, self.owners[place].long()

    def _revive(self, rows: Tensor) -> None:
        """Codes keep their meaning: an unused one waits where it is."""
        self.mass.copy_(torch.maximum(self.mass, FLOOR * self.mass.mean()))


@register("quantizer/structural")
class StructuralQuantizer(ResidualQuantizer):
    """``se_levels`` structural codebooks, then ``levels`` of ``codes`` behind them.

    ``assign``: "se" scores against the frozen graph, "nearest" takes the nearest
    vector. ``neighbours`` k, ``frames``, ``cap`` and ``seed`` as in
    `BuildOptions`; ``votes``: anchors a frame is linked with, 0 for 4k (fewer made more
    errors on spectra).
    ``found``: [codes, anchors] of each structural level once built, as
    :meth:`config_after_build` gives it; nobody chooses it.
    """

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 7,
        codes: int | Sequence[int] = 256,
        se_levels: int = 1,
        assign: str = "se",
        votes: int = 0,
        neighbours: int = 4,
        frames: int = 8000,
        cap: int = 0,
        seed: int = 0,
        decay: float = 0.99,
        commitment: float = 0.25,
        found: Sequence[Sequence[int]] | None = None,
    ) -> None:
        tail = (codes,) * levels if isinstance(codes, int) else tuple(codes)
        found = _checked(found, se_levels, assign)
        sizes = tuple(k for k, _ in found) + tail
        super().__init__(
            channels, levels=len(sizes), codes=sizes, decay=decay, commitment=commitment
        )
        options = BuildOptions(neighbours, frames, cap=cap, seed=seed)
        for level, (size, anchors) in enumerate(found):
            self.books[level] = StructuralBook(
                channels,
                decay,
                codes=size,
                anchors=anchors,
                assign=assign,
                votes=votes or 4 * neighbours,
                options=options,
            )
        self.se_levels = se_levels

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Build the structural levels from z (N, D), k-means for those behind."""
        super().initialise(z)
        self._count()

    def config_after_build(self) -> dict[str, Any]:
        """Options to store beside the weights, so that they fit when loaded."""
        found = [[len(b.mass), len(b.anchors)] for b in self._structural]
        return {"found": found}

    @property
    def _structural(self) -> list[StructuralBook]:
        return [cast(StructuralBook, b) for b in self.books[: self.se_levels]]

    def _count(self) -> None:
        self.sizes = tuple(len(book.mass) for book in self.chain)

    def make_room(self, known: Mapping[str, Tensor]) -> None:
        """Take the sizes that a built codebook has."""
        for level, book in enumerate(self._structural):
            names = (
                f"books.{level}.{name}" for name in ("vectors", "anchors", "owners")
            )
            vectors, anchors, owners = map(known.get, names)
            if vectors is None or anchors is None or owners is None:
                continue  # load_state_dict names what is missing
            if owners.numel() and not 0 <= int(owners.min()) <= int(owners.max()) < len(
                vectors
            ):
                raise ModelError(
                    f"anchors of level {level} belong to codes {int(owners.min())}.."
                    f"{int(owners.max())}; it has {len(vectors)}; the weights are "
                    "damaged, export them again"
                )
            book.resize(len(vectors), len(anchors))
        self._count()

    def _load_from_state_dict(
        self, state: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        """A run that goes on knows only the options it started with."""
        own = {k: v for k, v in state.items() if k.startswith(prefix)}
        self.make_room({k.removeprefix(prefix): v for k, v in own.items()})
        super()._load_from_state_dict(state, prefix, *rest)


def _checked(
    found: Sequence[Sequence[int]] | None, se_levels: int, assign: str
) -> list[tuple[int, int]]:
    """[codes, anchors] of each structural level; one of each before the build."""
    if assign not in ASSIGN:
        raise InputError(f"unknown assign '{assign}'; expected {' or '.join(ASSIGN)}")
    if se_levels < 1:
        raise InputError(f"se_levels is {se_levels}; expected 1 or more")
    if found is None:
        return [(1, 1)] * se_levels
    pairs = [tuple(pair) for pair in found]
    if len(pairs) != se_levels or any(
        len(p) != 2 or not 1 <= p[0] <= p[1] for p in pairs
    ):
        raise ModelError(
            f"found is {found}; expected [codes, anchors] for each of {se_levels} "
            "structural levels; it is written by an export, not by hand"
        )
    return [(codes, anchors) for codes, anchors in pairs]
