# SPDX-License-Identifier: Apache-2.0
"""Latents of sound, frame by frame: each under what was coded before it.

              frames t-K … t-1 (all channels)    rate
                          └──── trunk ────────────┘
                                  │ φ(t)
    frame t:   group 0 ◄── net 0 ─┤
               group 1 ◄── net 1 ─┼── group 0
               group 2 ◄── net 2 ─┴── groups 0, 1          n ~ N(mean, σ), integers

Contexts are decoded latents, n / gain: of one size at every rate. Networks answer in
the same unit; the rate's gain makes integers' means of it. All of it is exact
arithmetic (`exact/`), so encoder and trainer see all frames at once while a decoder
walks (`autoregressive_walk.py`), and both arrive at equal tables, bit for bit.

An autoregressive Gaussian after Minnen, Ballé, Toderici 2018 (arXiv 1809.02736), over
time, with channel groups of Minnen, Singh 2020 (arXiv 2007.08739).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.base import Coder, Counter, EntropyModel, Shape
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.models.walk import Walk
from polycodec.entropy_models.priors.shifted import (
    PLACES,
    REACH,
    SCALES,
    SIGMA_MIN,
    STEP,
    Placed,
    Shifted,
    Whole,
    place,
    shifted_tables,
)
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.errors import ModelError
from polycodec.registry import register


@dataclass(frozen=True)
class Scales:
    """What a rate does to latents, for each item of a batch.

    level: (B,) int64 from 0; gain: (B, D) integers a unit of latent; inverse: (B, D)
    latent of an integer. Floats that are stored, not computed, once a codec is frozen.
    """

    level: Tensor
    gain: Tensor
    inverse: Tensor


@register("entropy/autoregressive")
class AutoregressiveModel(EntropyModel):
    """``frames``: K, of context; ``groups``: parts that a frame's channels are coded
    in; ``hidden``: width of the trunk, ``width``: of a group's net."""

    kind = "speech"
    serial = True  # what is written in one pass is read in many

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 8,
        frames: int = 6,
        groups: int = 4,
        hidden: int = 256,
        width: int = 160,
    ) -> None:
        super().__init__()
        if not 1 <= groups <= channels or frames < 1 or levels < 1:
            raise ModelError(
                f"{groups} groups of {channels} channels, {frames} frames of context, "
                f"{levels} rates; expected 1 to {channels} groups, and 1 or more of "
                "the others; correct the config"
            )
        self.channels, self.levels, self.frames = channels, levels, frames
        edges = [channels * g // groups for g in range(groups + 1)]
        self.parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.past = ExactConv2d(channels * frames + levels, hidden)
        self.trunk = ExactConv2d(hidden, hidden)
        self.join = nn.ModuleList(
            ExactConv2d(hidden + part.start, width) for part in self.parts
        )
        outs = [ExactConv2d(width, 2 * (p.stop - p.start)) for p in self.parts]
        for layer in outs:
            nn.init.zeros_(layer.bias)
            layer.weight.data *= 0.1
        self.out = nn.ModuleList(outs)
        # Scale indexes of each rate, to which the nets add theirs.
        self.level_index = nn.Parameter(torch.full((levels, channels), 10.0))

    @property
    def whole(self) -> bool:
        return True

    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        rate: Scales | None = None,
        **_: Any,
    ) -> Tensor:
        """Code y (B, D, 1, F), or decode it when None. ``size`` is (B, 1, F)."""
        if rate is None:
            raise ModelError(
                "entropy/autoregressive needs the rate's scales; found none; it codes "
                "speech latents (codec/latent with signal speech)"
            )
        scales = rate
        if y is None:
            return self._walk(coder, (size[0], size[-1]), scales)
        rounded = y + (torch.round(y) - y).detach()
        priors = self._priors(rounded * _wide(scales.inverse), scales)
        if coder.serial:
            self._record(coder, rounded, priors)
            return rounded
        values = [y[:, part] for part in self.parts]
        done = [
            coder.code(value, prior, tuple(value.shape))
            for value, prior in zip(values, priors, strict=True)
        ]
        return torch.cat(done, dim=1)

    def _record(self, coder: Coder, values: Tensor, priors: list[Shifted]) -> None:
        """Write all in the order in which a decoder can read: frames, then channels."""
        placed = [place(prior.mean, prior.index) for prior in priors]
        whole, table = (torch.cat(p, dim=1) for p in zip(*placed, strict=True))
        whole, table, values = (p.transpose(1, 3) for p in (whole, table, values))
        prior = Placed(whole, table, self.table("y"))
        coder.code(values, prior, tuple(values.shape))  # (B, F, 1, D)

    def _priors(self, known: Tensor, scales: Scales) -> list[Shifted]:
        """Priors of all groups from latents (B, D, 1, F), each seeing what it may."""
        length = known.shape[3]
        rate = F.one_hot(scales.level, self.levels).to(known.dtype)
        inputs = [F.pad(known, (k, 0))[..., :length] for k in range(self.frames, 0, -1)]
        inputs.append(_wide(rate).expand(-1, -1, 1, length))
        phi = F.relu(self.trunk(F.relu(self.past(torch.cat(inputs, dim=1)))))
        gain, level_index = _wide(scales.gain), _wide(self.level_index[scales.level])
        priors = []
        for part, join, out in zip(self.parts, self.join, self.out, strict=True):
            h = F.relu(join(torch.cat([phi, known[:, : part.start]], dim=1)))
            mean, index = out(h).float().chunk(2, dim=1)
            mean, index = mean * gain[:, part], index + level_index[:, part]
            priors.append(Shifted(mean, index, self.table("y")))
        return priors

    def _walk(self, coder: Coder, size: tuple[int, int], scales: Scales) -> Tensor:
        batch, length = size
        walk = Walk(self, scales)
        values = np.zeros((batch, self.channels, 1, length), np.float32)
        for t in range(length):
            walk.begin()
            for g, part in enumerate(self.parts):
                whole, table = (torch.from_numpy(a)[..., None] for a in walk.place(g))
                prior = Placed(whole[..., None], table[..., None], self.table("y"))
                coded = coder.code(None, prior, (*whole.shape, 1))[..., 0, 0].numpy()
                walk.take(g, coded)
                values[:, part, 0, t] = coded
        return torch.from_numpy(values)

    @torch.no_grad()
    def initialise(self, deviation: Tensor) -> None:
        """Start from the deviations (L, D) of integers at each rate."""
        index = torch.log(deviation.clamp_min(SIGMA_MIN) / SIGMA_MIN) / STEP
        self.level_index.copy_(index)

    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""
        self.tables = {"y": shifted_tables()}

    def counter(self) -> TableCounter:
        return TableCounter(Whole, SCALES * PLACES, REACH)

    def refit(self, counter: Counter) -> None:
        assert isinstance(counter, TableCounter)
        self.tables = {"y": shifted_tables(counter.counts)}


def _wide(x: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1)."""
    return x[:, :, None, None]
