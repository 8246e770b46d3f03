# SPDX-License-Identifier: Apache-2.0
"""Linear wavelet shortcuts beside a chain of stages: the auxiliary transform (AuxT).

    x ─┬─ stage ──⊕── stage ──⊕── stage ──⊕── y        ⊕ adds the shortcut's result,
       └─ short ──┴── short ──┴── short ──┘             which also goes on beside

    short   Haar ↓2 ─ e^s per subband and channel ─ 1x1        (up: the mirror image)

The shortcuts compact energy linearly, so that the stages need to learn only what is not
linear: Li et al. 2025, "On disentangled training for nonlinear transform in learned
image compression" (arXiv 2501.13751). Their 1x1 matrices are kept near orthogonal by
`penalty`, which training adds to its loss. Before the first step the shortcuts become
the Karhunen-Loève transform of what is trained on, which the paper does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.base import ImageTransform

Stage = Callable[[Tensor, Tensor], Tensor]

_WEIGHT = 0.1  # of the penalty in the loss, the paper's
_START = 0.5  # logarithm of a detail subband's first scale; the low band's is 0


def haar(x: Tensor) -> Tensor:
    """One step of the orthonormal Haar transform: (B, C, h, w) -> (B, 4 C, h/2, w/2).

    Subbands lie one after the other: low, horizontal, vertical, diagonal.
    """
    a, b, c, d = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).unbind(2)
    return (
        torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2
    )


def unhaar(x: Tensor) -> Tensor:
    """The inverse of `haar`: (B, 4 C, h, w) -> (B, C, 2 h, 2 w)."""
    low, horizontal, vertical, diagonal = x.chunk(4, dim=1)
    quarter = [
        low + horizontal + vertical + diagonal,
        low - horizontal + vertical - diagonal,
        low + horizontal - vertical - diagonal,
        low - horizontal - vertical + diagonal,
    ]
    return F.pixel_shuffle(torch.stack(quarter, 2).flatten(1, 2), 2) / 2


class Shortcut(nn.Module):
    """(B, a, h, w) -> (B, b, h / factor, w / factor); with ``up``, times the factor."""

    def __init__(self, a: int, b: int, factor: int = 2, *, up: bool = False) -> None:
        super().__init__()
        self.up, self.steps = up, factor.bit_length() - 1
        assert factor == 1 << self.steps, factor
        bands, inner = factor**2, b if up else a
        scale = torch.full((bands, inner), _START)
        scale[0] = 0
        self.log_scale = nn.Parameter(scale.flatten())
        self.mix = nn.Conv2d(a, b * bands, 1) if up else nn.Conv2d(a * bands, b, 1)
        nn.init.orthogonal_(self.mix.weight)
        assert self.mix.bias is not None
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.log_scale.exp()[:, None, None].to(x.dtype)
        if not self.up:
            for _ in range(self.steps):
                x = haar(x)
            return self.mix(x * scale)
        x = self.mix(x) / scale
        for _ in range(self.steps):
            x = unhaar(x)
        return x

    def penalty(self) -> Tensor:
        """Mean squared distance of W Wᵀ (of the shorter side) from the identity."""
        w = self.mix.weight.flatten(1).float()
        w = w if w.shape[0] <= w.shape[1] else w.T
        return (w @ w.T - torch.eye(len(w), device=w.device)).square().mean()


def beside(
    wanted: bool, widths: Sequence[int], factors: Sequence[int], *, up: bool = False
) -> nn.ModuleList:
    """Shortcuts beside stages from ``widths[i]`` to ``widths[i + 1]``, or none."""
    sizes = zip(widths[:-1], widths[1:], factors, strict=True) if wanted else ()
    return nn.ModuleList(Shortcut(a, b, factor, up=up) for a, b, factor in sizes)


def through(
    stages: Iterable[Stage], shortcuts: Iterable[nn.Module], x: Tensor, level: Tensor
) -> Tensor:
    """Run x through the stages, and through the shortcuts beside them, if any."""
    linear, shorts = x, list(shortcuts)
    for i, stage in enumerate(stages):
        x = stage(x, level)
        if shorts:
            linear = shorts[i](linear)
            x = x + linear
    return x


@torch.no_grad()
def start(down: nn.ModuleList, up: nn.ModuleList, x: Tensor) -> bool:
    """Make shortcuts the Karhunen-Loève transform of x (B, 3, H, W), and its inverse.

    Step by step: each keeps the axes of largest variance of its subbands, as many as
    there are, or as it has channels. Says whether there are shortcuts.
    """
    both = list(zip(down, reversed(up), strict=True))
    for there, back in cast("list[tuple[Shortcut, Shortcut]]", both):
        bands, inner = 1 << 2 * there.steps, x.shape[1]
        for _ in range(there.steps):
            x = haar(x)
        axes = principal_axes(x, min(x.shape[1], there.mix.out_channels))
        x = torch.einsum("bchw,kc->bkhw", x, axes)
        # The channels of a subband lie together; the last ones may hold no axis yet.
        # They get what outputs are left, so that all may learn.
        width = there.mix.in_channels // bands
        weight = axes.new_zeros(there.mix.out_channels, bands, width)
        weight[: len(axes), :, :inner] = axes.view(-1, bands, inner)
        rest = axes.new_empty(len(weight) - len(axes), bands * (width - inner))
        if rest.numel():
            nn.init.orthogonal_(rest)
            weight[len(axes) :, :, inner:] = rest.view(len(rest), bands, -1)
        there.log_scale.zero_()
        back.log_scale.zero_()
        there.mix.weight.copy_(weight.flatten(1)[..., None, None])
        back.mix.weight.copy_(weight.flatten(1).T[..., None, None])
    return bool(both)


def principal_axes(x: Tensor, count: int) -> Tensor:
    """The ``count`` axes (count, C) of largest variance of x (B, C, h, w)."""
    v = x.transpose(0, 1).flatten(1).double()  # (C, n)
    _, axes = torch.linalg.eigh(v @ v.T / v.shape[1])
    return axes.flip(1).T[:count].float()


class ShortcutTransform(ImageTransform):
    """An image transform whose g_a and g_s hold ``shortcuts``; they may be none.

    ``ends``: layers of g_a and of g_s whose zeros leave the last shortcut by itself.
    """

    g_a: nn.Module
    g_s: nn.Module
    ends: tuple[nn.Module, nn.Module]

    def _shortcuts(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        both = self.g_a.shortcuts, self.g_s.shortcuts
        return cast("tuple[nn.ModuleList, nn.ModuleList]", both)

    def penalty(self) -> Tensor | None:
        """What keeps the shortcuts near orthogonal; None: there are none."""
        down, up = self._shortcuts()
        terms = [cast("Shortcut", layer).penalty() for layer in (*down, *up)]
        return _WEIGHT * torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def initialise(self, x: Tensor) -> bool:
        """See `start`; what is added to the shortcuts' results starts as nothing."""
        if not start(*self._shortcuts(), x):
            return False
        for layer in self.ends:
            for weight in layer.parameters():
                weight.zero_()
        return True
