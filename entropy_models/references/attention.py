# SPDX-License-Identifier: Apache-2.0
"""Global references: linear attention over whole maps.

    inter   q, k, v of the slices before: what is alike anywhere in the picture
    intra   the slice before tells which ▦ each ▩ is like (q, k); what is then seen
            are this slice's ▦ (v)
    guided  the same where there is no slice before: φ tells, and while nothing of the
            slice is known, what is seen is φ too

The cost grows with the number of positions, not with its square. MLIC++, Jiang et al.
2023 (arXiv 2307.15421), with its widths where a config names them; rotary positions and
the guided one: MLICv2 (arXiv 2504.19119), of which no code is published. How its
authors wire the guided one could not be read: here the second half sees the first, as
in intra, and with ``first`` the first half sees φ of the second.
"""

from __future__ import annotations

import abc
import functools
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.linear import LinearAttention, Turn
from polycodec.entropy_models.exact.positions import Positions, gather, scatter
from polycodec.entropy_models.exact.rotary import Rotary
from polycodec.entropy_models.references.base import Reference, State
from polycodec.entropy_models.references.fusion import Fusion, Gated
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

    ``width``: of the result; ``inner``: of queries, keys and values, each, None: as
    many as before the slice; ``heads`` divide them, None: 32 channels each; ``rotary``:
    whether positions turn queries and keys; the others are `Fusion`'s.
    """

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        inner: int | None = 64,
        heads: int | None = 2,
        rotary: bool = False,
        **fusion: Any,
    ) -> None:
        super().__init__()
        inner = inner or before
        self.width, self.heads = width, heads or max(1, inner // 32)
        self.qkv = Projection(before, inner, self.heads, 3)
        self.attention = LinearAttention()
        self.turn = Rotary(inner // self.heads) if rotary else None
        self.out = Fusion(inner, width, **fusion)

    def before(self, state: State) -> Tensor:
        h, w = state.current.shape[2:]
        parts = _heads(self.qkv(state.before), 3 * self.heads).chunk(3, dim=1)
        everywhere = Positions.everywhere(h, w, device=state.current.device)
        turns = turns_of(self.turn, everywhere, everywhere)
        seen = self.attention(*parts, turns=turns).flatten(1, 2)
        return self.out(seen.unflatten(2, (h, w)))


def turns_of(
    turn: Rotary | None, q: Positions, k: Positions
) -> tuple[Turn, Turn] | None:
    """What turns weights (..., n, d) of queries and keys; None: nothing."""
    if turn is None:
        return None
    w = q.mask.shape[1]
    at = [(p.index // w, p.index % w) for p in (q, k)]
    of_q, of_k = (functools.partial(_turned, turn, one) for one in at)
    return of_q, of_k


def _turned(turn: Rotary, at: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    return turn(x, *at)


class _Halves(Reference):
    """One half of a slice sees the other, by likeness in a guide."""

    once = False
    kernel = 5

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        inner: int | None = 32,
        heads: int = 2,
        rotary: bool = False,
        guide: int | None = None,
        **fusion: Any,
    ) -> None:
        super().__init__()
        self.guide = guide or self.channels_of_guide(before, channels, features)
        inner = inner or self.guide
        self.width, self.heads, self.inner = width, heads, inner
        self.qk = Projection(self.guide, inner, heads, 2)
        self.v = self.values(channels, inner)
        self.attention = LinearAttention()
        self.turn = Rotary(inner // heads) if rotary else None
        self.out = Fusion(inner, width, **{"kernel": self.kernel, **fusion})

    def values(self, channels: int, inner: int) -> nn.Module:
        """The layers that make values of the slice."""
        return Projection(channels, inner, 1, 1)

    @staticmethod
    @abc.abstractmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        """How many channels the guide has, unless told."""

    @abc.abstractmethod
    def guided_by(self, state: State) -> Tensor:
        """The map that says which positions are alike, (B, guide, h, w)."""

    def seen(self, state: State) -> Tensor:
        """The map of values, (B, inner, h, w)."""
        return self.v(state.current)

    def within(self, state: State, where: Positions) -> Tensor:
        q, k = self.qk(self.guided_by(state)).chunk(2, dim=1)
        parts = gather(q, where), k, self.seen(state)
        asked = (_heads(part, self.heads) for part in parts)
        everywhere = Positions.everywhere(k.shape[2], k.shape[3], device=k.device)
        turns = turns_of(self.turn, where, everywhere)
        # The keys are the other half: what is asked for is not known yet.
        seen = self.attention(*asked, hidden=where.mask.flatten(), turns=turns)
        full = torch.zeros_like(parts[2])
        full = scatter(full, where, seen.flatten(1, 2).unsqueeze(2))
        return self.out(full, where)


@register("reference/intra")
class IntraReference(_Halves):
    """One half of a slice sees the other, by likeness in what was decoded before.

    The guide is as many channels before the slice as it has itself. ``width``: of the
    result; ``inner``: of queries, keys and values, each; ``heads`` divide them;
    ``rotary``: whether positions turn queries and keys; the others are `Fusion`'s.
    """

    @classmethod
    def applies(cls, before: int, half: int, **_: Any) -> bool:
        return before > 0 and half > 0

    @staticmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        return min(before, channels)

    def guided_by(self, state: State) -> Tensor:
        return state.before[:, -self.guide :]


@register("reference/guided")
class GuidedReference(_Halves):
    """One half of the first slice sees the other, by likeness in φ.

    ``guide``: channels of φ that tell, None: all; ``inner``: None: as many; ``first``:
    whether the first half sees φ of the second; ``gated``: whether the result is
    c + c · gate(c). Options of `intra` else.
    """

    kernel = 3

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        first: bool = False,
        gated: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(before, channels, features, **options)
        v = Projection(self.guide, self.inner, 1, 1) if first else None
        self.v_of_guide = v
        self.gated = Gated(self.width) if gated else None

    def values(self, channels: int, inner: int) -> nn.Module:
        return ExactConv2d(channels, inner)

    @classmethod
    def applies(cls, before: int, half: int, **options: Any) -> bool:
        return before == 0 and (half > 0 or bool(options.get("first")))

    @staticmethod
    def channels_of_guide(before: int, channels: int, features: int) -> int:
        return features

    def guided_by(self, state: State) -> Tensor:
        return state.phi[:, : self.guide]

    def seen(self, state: State) -> Tensor:
        if self.v_of_guide is not None and state.half == 0:
            return self.v_of_guide(self.guided_by(state))
        return super().seen(state)

    def within(self, state: State, where: Positions) -> Tensor:
        c = super().within(state, where)
        return c if self.gated is None else c + self.gated(c, where)
