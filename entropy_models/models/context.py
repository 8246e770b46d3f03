# SPDX-License-Identifier: Apache-2.0
"""Hyperprior, checkerboard and channel contexts: one model, four names.

    y ── h_a ──► z ──[coder]──► ẑ ── h_s ──► φ            (side information)

    for slice i of the channels:                            (channel context)
        for half in (▦ anchors, ▩ the rest):                (checkerboard)
            means, index = net_i(φ, slices < i, what is known of slice i)
            ŷ_i[half] = coder.code(y_i[half], Gaussian(means, index))

One slice and one pass is the mean-scale hyperprior (Minnen, Ballé, Toderici 2018,
arXiv 1809.02736); one slice and two passes the checkerboard (He et al. 2021, arXiv
2103.15306); slices without passes the channel-wise model (Minnen, Singh 2020, arXiv
2007.08739); both together follow ELIC (He et al. 2022, arXiv 2203.10886), which
also has slices that grow: the first few channels carry most of the energy.

Everything after ẑ is exact arithmetic (`exact.py`): contexts read decoded integers
plus means on a grid of 1/16, never floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.base import Coder, Counter, EntropyModel, Shape
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions, gather, scatter
from polycodec.entropy_models.priors.factorized import Factorized, FactorizedPrior
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.entropy_models.priors.tables import LARGEST, gaussian_tables
from polycodec.errors import ModelError
from polycodec.registry import register


class HyperAnalysis(nn.Sequential):
    """h_a: (B, M, h, w) -> z (B, N, ceil(h/4), ceil(w/4)); ordinary floats."""

    def __init__(self, M: int, N: int) -> None:
        super().__init__(
            nn.Conv2d(M, N, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(N, N, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(N, N, 3, 2, 1),
        )


class HyperSynthesis(nn.Module):
    """h_s: ẑ (B, N, h/4, w/4) -> features φ (B, F, h, w); exact when frozen."""

    def __init__(self, N: int, features: int) -> None:
        super().__init__()
        self.up1 = ExactConv2d(N, 4 * N, 1)  # (B, 4N, h/4, w/4)
        self.mid = ExactConv2d(N, N, 3)  # (B, N, h/2, w/2)
        self.up2 = ExactConv2d(N, 4 * N, 1)
        self.out = ExactConv2d(N, features, 3)  # (B, F, h, w)

    def forward(self, z_hat: Tensor, size: tuple[int, int]) -> Tensor:
        t = F.relu(F.pixel_shuffle(self.up1(z_hat), 2))
        t = F.relu(self.mid(t))
        t = F.relu(F.pixel_shuffle(self.up2(t), 2))
        return F.relu(self.out(t[..., : size[0], : size[1]]))


class SliceParameters(nn.Module):
    """Means and table indexes of one slice from all that is decoded so far."""

    def __init__(
        self, features: int, before: int, channels: int, kernel: int, hidden: int
    ) -> None:
        super().__init__()
        # One more input channel says which positions of the slice are known.
        self.context = ExactConv2d(before + channels + 1, hidden, kernel)
        self.mix = ExactConv2d(features + hidden, hidden, 1)
        self.out = ExactConv2d(hidden, 2 * channels, 1)
        nn.init.zeros_(self.out.bias)
        # Start near σ = 1 rather than at the smallest scale.
        self.out.bias.data[channels:] = 22.0

    def forward(
        self, phi: Tensor, known: Sequence[Tensor], mask: Tensor, where: Positions
    ) -> tuple[Tensor, Tensor]:
        """Means and indexes, both (B, C, 1, n), of the n positions in ``where``.

        phi (B, F, h, w); known: decoded slices and the current one, zero where not
        yet known; mask (h, w): where it is known.
        """
        flag = mask.to(phi.dtype).expand(phi.shape[0], 1, *mask.shape)
        context = self.context.at(torch.cat([*known, flag], dim=1), where)
        features = torch.cat([gather(phi, where), F.relu(context)], dim=1)
        means, index = self.out(F.relu(self.mix(features))).chunk(2, dim=1)
        return means, index


@register("entropy/context")
class ContextModel(EntropyModel):
    """Hyperprior with channel slices and checkerboard passes.

    ``channels``: M of the latent; ``hyper``: N of z; ``features``: width of φ;
    ``slices``: channels of each slice, summing to M; ``kernels``: context kernel of
    each slice; ``passes``: 1 (all positions at once) or 2 (checkerboard).
    """

    stride = 4  # of z against y

    def __init__(
        self,
        channels: int,
        *,
        hyper: int = 128,
        features: int = 192,
        slices: Sequence[int] = (16, 32, 48, 96),
        kernels: Sequence[int] = (5, 5, 3, 3),
        hidden: int = 128,
        passes: int = 2,
    ) -> None:
        super().__init__()
        check_slices(channels, slices, passes)
        kernels = tuple(kernels)
        if len(kernels) != len(slices) or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ModelError(
                f"kernels {kernels} for {len(slices)} slices {slices}; expected one "
                "odd kernel for each slice"
            )
        self.channels = channels
        self.slices, self.passes, self.hyper = tuple(slices), passes, hyper
        self.h_a = HyperAnalysis(channels, hyper)
        self.h_s = HyperSynthesis(hyper, features)
        self.prior_z = FactorizedPrior(hyper)
        starts = [sum(slices[:i]) for i in range(len(slices))]
        self.nets = nn.ModuleList(
            SliceParameters(features, start, size, kernel, hidden)
            for start, size, kernel in zip(starts, slices, kernels, strict=True)
        )

    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        z: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Size: (B, h, w)."""
        batch, h, w = size
        if z is None and y is not None:
            z = self.h_a(y)
        z_shape = (batch, self.hyper, -(-h // 4), -(-w // 4))
        z_hat = coder.code(z, Factorized(self.prior_z, self.table("z")), z_shape)
        phi = self.h_s(z_hat, (h, w))
        parts = (None,) * len(self.slices) if y is None else y.split(self.slices, 1)
        decoded: list[Tensor] = []
        for net, channels, part in zip(self.nets, self.slices, parts, strict=True):
            current = phi.new_zeros((batch, channels, h, w))
            known = torch.zeros(h, w, dtype=torch.bool, device=phi.device)
            for where in passes_of(self.passes, h, w, phi.device):
                prior = self._prior(net, phi, [*decoded, current], known, where)
                value = None if part is None else gather(part, where)
                values = coder.code(value, prior, prior.means.shape)
                current = scatter(current, where, values)
                known = known | where.mask
            decoded.append(current)
        return torch.cat(decoded, dim=1)

    def _prior(
        self,
        net: nn.Module,
        phi: Tensor,
        known: Sequence[Tensor],
        mask: Tensor,
        where: Positions,
    ) -> Gaussian:
        means, index = net(phi, known, mask, where)
        return Gaussian(means, index, self.table("y"))

    def side(self, y: Tensor) -> Tensor:
        """z (B, N, ceil(h/4), ceil(w/4))."""
        return self.h_a(y)

    @torch.no_grad()
    def initialise(self, deviation: Tensor) -> None:
        """Start the table indexes at those of the channels' deviations, (M,)."""
        index = torch.log(deviation.clamp_min(SCALE_MIN) / SCALE_MIN) / LOG_STEP
        nets = cast("Iterable[SliceParameters]", self.nets)
        for net, start in zip(nets, index.split(self.slices), strict=True):
            net.out.bias[len(start) :] = start

    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""
        self.tables = {"y": gaussian_tables(), "z": self.prior_z.freeze_tables()}

    def counter(self) -> TableCounter:
        return TableCounter(Gaussian, SCALE_BINS, LARGEST)

    def refit(self, counter: Counter) -> None:
        """Fit the tables of y; see :meth:`EntropyModel.refit`."""
        assert isinstance(counter, TableCounter)
        self.tables["y"] = gaussian_tables(counter.counts)


def passes_of(passes: int, h: int, w: int, device: torch.device) -> list[Positions]:
    """The positions of each pass: all at once, or the halves of a checkerboard."""
    if passes == 1 or h * w == 1:  # one position leaves no second half
        return [Positions.everywhere(h, w, device)]
    return [Positions.checkerboard(h, w, half, device) for half in (0, 1)]


def check_slices(channels: int, slices: Sequence[int], passes: int) -> None:
    """Refuse slices that do not cut ``channels`` into parts."""
    slices = tuple(slices)
    if sum(slices) != channels or min(slices, default=0) < 1:
        raise ModelError(
            f"the slices of the entropy model hold {sum(slices)} channels; the "
            f"transform yields {channels}; make slices {slices} sum to it, each "
            "at least 1"
        )
    if passes not in (1, 2):
        raise ModelError(f"passes is {passes}; expected 1, or 2 for a checkerboard")


@register("entropy/hyperprior")
def hyperprior(
    channels: int, *, hyper: int = 128, features: int = 192, hidden: int = 128
) -> ContextModel:
    """Mean-scale hyperprior: every latent at once, given z."""
    sizes = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(channels, slices=(channels,), kernels=(1,), passes=1, **sizes)


@register("entropy/checkerboard")
def checkerboard_model(
    channels: int,
    *,
    hyper: int = 128,
    features: int = 192,
    hidden: int = 128,
    kernel: int = 5,
) -> ContextModel:
    """Two passes: the second half of the positions sees the first."""
    sizes = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(
        channels, slices=(channels,), kernels=(kernel,), passes=2, **sizes
    )


@register("entropy/channel")
def channel_model(
    channels: int,
    *,
    groups: int = 4,
    hyper: int = 128,
    features: int = 192,
    hidden: int = 128,
    kernel: int = 3,
) -> ContextModel:
    """Channel slices of equal size, each seeing those before it."""
    if not 1 <= groups <= channels:
        raise ModelError(f"{groups} groups of {channels} channels; expected fewer")
    size = channels // groups
    slices = (size,) * (groups - 1) + (channels - size * (groups - 1),)
    sizes = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(
        channels, slices=slices, kernels=(kernel,) * groups, passes=1, **sizes
    )
