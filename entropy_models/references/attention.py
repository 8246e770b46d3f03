# SPDX-License-Identifier: Apache-2.0
"""Global references: linear attention over whole maps.

    inter   q, k, v of the slices before: what is alike anywhere in the picture
    intra   the slices before tell which ▦ each ▩ is like (q, k); what is then seen
            are this slice's ▦ (v)
    guided  the same where there is no slice before: φ tells

The cost grows with the number of positions, not with its square. MLIC++, Jiang et al.
2023 (arXiv 2307.15421).
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.linear import LinearAttention
from polycodec.entropy_models.exact.positions import Positions, gather, scatter
from polycodec.entropy_models.references.base import Reference, State
from polycodec.entropy_models.references.reweight import Reweighting
from polycodec.errors import ModelError
from polycodec.registry import register


class Projection(nn.Sequential):
    """1x1, then 3x3 for each channel alone: ``parts`` maps of ``inner`` channels."""

    def __init__(self, before: int, inner: int, heads: int, parts: int) -> None:
        if inner % heads:
            raise ModelError(f"{heads} heads of {inner} channels; expected a divisor")
        channels = parts * inner
        super().__init__(
            ExactConv2d(before, channels),
            ExactConv2d(channels, channels, 3, groups=channels),
        )


def _heads(x: Tensor, count: int) -> Tensor:
    """(B, C, h, w) to (B, heads, C / heads, positions)."""
    return x.flatten(2).unflatten(1, (count, -1))


@register("reference/inter")
class InterReference(Reference):
    """All positions ask all positions of the slices before.

    ``width``: of the result; ``inner``: of queries, keys and values, each; ``heads``
    divide them; ``reweight``: see `reweight`.
    """

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        inner: int = 64,
        heads: int = 2,
        reweight: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.reweight = Reweighting(width) if reweight else nn.Identity()
        self.qkv = Projection(before, inner, heads, 3)
        self.attention = LinearAttention()
        self.out = ExactConv2d(inner, width, 5)

    def before(self, state: State) -> Tensor:
        parts = _heads(self.qkv(state.before), 3 * self.heads).chunk(3, dim=1)
        seen = self.attention(*parts).flatten(1, 2)
        out = self.out(seen.unflatten(2, state.current.shape[2:]))
        return self.reweight(out)


class _Halves(Reference):
    """One half of a slice sees the other, by likeness in a guide.

    ``width``: of the result; ``inner``: of queries, keys and values, each; ``heads``
    divide them; ``reweight``: see `reweight`.
    """

    once = False

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        inner: int = 32,
        heads: int = 2,
        reweight: bool = False,
    ) -> None:
        super().__init__()
        self.reweight = Reweighting(width) if reweight else nn.Identity()
        self.width, self.heads = width, heads
        self.guide = self.channels_of_guide(before, channels, features)
        self.qk = Projection(self.guide, inner, heads, 2)
        self.v = Projection(channels, inner, heads, 1)
        self.attention = LinearAttention()
        self.out = ExactConv2d(inner, width, 5)

    @staticmethod
    @abc.abstractmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        """How many channels the guide has."""

    @abc.abstractmethod
    def guided_by(self, state: State) -> Tensor:
        """The map that says which positions are alike, (B, guide, h, w)."""

    def within(self, state: State, where: Positions) -> Tensor:
        q, k = self.qk(self.guided_by(state)).chunk(2, dim=1)
        parts = gather(q, where), k, self.v(state.current)
        asked = (_heads(part, self.heads) for part in parts)
        seen = self.attention(*asked, hidden=~state.known.flatten())
        full = torch.zeros_like(parts[2])
        full = scatter(full, where, seen.flatten(1, 2).unsqueeze(2))
        return self.reweight(self.out.at(full, where))


@register("reference/intra")
class IntraReference(_Halves):
    """One half of a slice sees the other, by likeness in what was decoded before.

    The guide is as many channels before the slice as it has itself. ``width``: of the
    result; ``inner``: of queries, keys and values, each; ``heads`` divide them;
    ``reweight``: see `reweight`.
    """

    @classmethod
    def applies(cls, before: int, half: int) -> bool:
        return before > 0 and half > 0

    @staticmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        return min(before, channels)

    def guided_by(self, state: State) -> Tensor:
        return state.before[:, -self.guide :]


@register("reference/guided")
class GuidedReference(_Halves):
    """One half of the first slice sees the other, by likeness in φ.

    The first slice has none before it: side information is its guide, as in MLICv2,
    Jiang et al. 2025 (arXiv 2504.19119). ``width``: of the result; ``inner``: of
    queries, keys and values, each; ``heads`` divide them; ``reweight``: see `reweight`.
    """

    @classmethod
    def applies(cls, before: int, half: int) -> bool:
        return before == 0 and half > 0

    @staticmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        return features

    def guided_by(self, state: State) -> Tensor:
        return state.phi
