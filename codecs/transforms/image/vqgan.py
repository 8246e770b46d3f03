# SPDX-License-Identifier: Apache-2.0
"""Control-GIC's networks: an encoder tapped at three strides, a conditional decoder.

    g_a   x ─ conv3 ─ L0 ↓ L1 ↓ L2 ───── ↓ L3 ───── ↓ L4         L   Res, (Attn at H/8)
                            │fine H/4     │medium     │coarse      ↓  conv3, stride 2
                           tap           tap H/8     tap H/16     tap Res Attn Res conv3
          z = fine, medium ↑2, coarse ↑4, activity of 8x8 and of 16x16 pixels, at H/4

    g_s   q ─ head, pool 4 ─ M4 ↑ · m_coarse + head, pool 2 · m_medium ─ M3 ↑ ·
          (1 - m_fine) + head · m_fine ─ M2 ↑ M1 ↑ M0 ─ norm, conv3 ─ x̂

Every norm of g_s is scaled and shifted by 1x1 convolutions of the quantized map q: the
decoder is conditioned on what was sent, and each granularity replaces what was decoded
of the coarser one where its mask is set. That is Control-GIC's "probabilistic
conditional decoder", which is deterministic: Li et al. 2025, "Once-for-all:
Controllable generative image compression with dynamic granularity adaptation" (arXiv
2406.00758), section 3.3; encoder of Esser et al. 2021 (VQGAN, arXiv 2012.09841), norms
of Zheng et al. 2022 (MoVQ, arXiv 2209.09002).

Other than there: norms are over the channels of one position, not over groups of
channels of the whole picture, and attention stays inside windows of 64 x 64 pixels, so
that tiles and regions come out as of the whole. Counts of parameters stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.base import ImageTransform
from polycodec.codecs.transforms.image import reach
from polycodec.codecs.transforms.image.activity import activity
from polycodec.codecs.transforms.image.swin import MASKED
from polycodec.registry import register

WINDOW = 64  # pixels a side inside which positions attend
TAPS = (2, 3, 4)  # levels, H/4 to H/16, the finest first


class Norm(nn.Module):
    """Over the channels of each position of (B, C, h, w); conditioned on q (B, c, h, w)
    at any resolution, where ``condition`` is c and not 0."""

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Conv2d(condition, channels, 1) if condition else None
        self.shift = nn.Conv2d(condition, channels, 1) if condition else None
        if self.scale is not None:  # starts near the plain norm
            assert self.scale.bias is not None
            nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, q: Tensor | None = None) -> Tensor:
        """Of x (B, C, h, w), the same shape."""
        shape, affine = (x.shape[1],), (self.weight, self.bias)
        out = F.layer_norm(x.movedim(1, -1), shape, *affine).movedim(-1, 1)
        if self.scale is None or self.shift is None:
            return out
        assert q is not None
        near = F.interpolate(q, x.shape[2:], mode="nearest")
        return out * self.scale(near) + self.shift(near)


class Residual(nn.Module):
    """Two norms, SiLU, conv3, and a shortcut: (B, a, h, w) -> (B, b, h, w)."""

    def __init__(self, a: int, b: int, condition: int = 0) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(a, condition), Norm(b, condition)])
        self.convs = nn.ModuleList([_conv3(a, b), _conv3(b, b)])
        self.shortcut = nn.Identity() if a == b else nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor, q: Tensor | None = None) -> Tensor:
        """q: what conditional norms see."""
        out = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            out = conv(F.silu(norm(out, q)))
        return out + self.shortcut(x)


class Attend(nn.Module):
    """One head of attention inside windows of ``side`` positions; shapes stay."""

    def __init__(self, channels: int, side: int, condition: int = 0) -> None:
        super().__init__()
        self.side, self.norm = side, Norm(channels, condition)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, q: Tensor | None = None) -> Tensor:
        """Positions beyond the edge are masked."""
        h, w = x.shape[2:]
        pad = (0, -w % self.side, 0, -h % self.side)
        parts = F.pad(self.qkv(self.norm(x, q)), pad)
        there = F.pad(x.new_ones(1, 1, h, w), pad)
        mask = self._cut(1 - there).movedim(-1, -2) * MASKED
        mask = mask.repeat(len(x), 1, 1)
        query, key, value = self._cut(parts).chunk(3, -1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        whole = out.view(
            len(x), *(n // self.side for n in parts.shape[2:]), *(self.side,) * 2, -1
        )
        whole = whole.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return x + self.out(whole[:, :, :h, :w])

    def _cut(self, x: Tensor) -> Tensor:
        """(B, C, h, w), multiples of a window -> (windows, side², C)."""
        x = x.unflatten(3, (-1, self.side)).unflatten(2, (-1, self.side))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(0, 2).flatten(1, 2)


def _conv3(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, 1, 1)


class Start(nn.Conv2d):
    """A conv3 at the beginning of a `Chain`: no condition."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b, 3, 1, 1)

    def forward(self, x: Tensor, q: Tensor | None = None) -> Tensor:
        """As of a convolution."""
        return super().forward(x)


class Chain(nn.Module):
    """Modules one after the other, each told the condition q."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, q: Tensor | None = None) -> Tensor:
        """The result of the last."""
        for part in self.parts:
            x = part(x, q)
        return x


class Encoder(nn.Module):
    """x (B, 3, H, W) in -1 … 1 -> taps (B, c, H/4, W/4), … of H/8 and H/16."""

    def __init__(
        self, width: int, multiples: Sequence[int], depth: int, c: int
    ) -> None:
        super().__init__()
        widths = [width * m for m in multiples]
        self.first = _conv3(3, width)
        self.levels, self.downs, self.taps = (nn.ModuleList() for _ in range(3))
        before = width
        for level, own in enumerate(widths):
            parts: list[nn.Module] = []
            for _ in range(depth):
                parts.append(Residual(before, own))
                parts += [Attend(own, WINDOW // 8)] if level == 3 else []
                before = own
            self.levels.append(Chain(parts))
            if level + 1 < len(widths):
                self.downs.append(nn.Conv2d(own, own, 3, 2))
            if level in TAPS:
                around = [Residual(own, own), Attend(own, WINDOW >> level)]
                tap = [Chain([*around, Residual(own, own)]), Norm(own), nn.SiLU()]
                self.taps.append(nn.Sequential(*tap, _conv3(own, c)))
        self.last = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The finest first."""
        x, found = self.first(x), []
        for level, chain in enumerate(self.levels):
            x = chain(x)
            if level in TAPS:
                found.append(self.last(self.taps[level - TAPS[0]](x)))
            if level < len(self.downs):
                x = self.downs[level](F.pad(x, (0, 1, 0, 1)))
        return found


class Decoder(nn.Module):
    """q (B, c, H/4, W/4) and masks (B, 1, H/4, W/4) -> x̂ (B, 3, H, W)."""

    def __init__(
        self, width: int, multiples: Sequence[int], depth: int, c: int
    ) -> None:
        super().__init__()
        widths = [width * m for m in reversed(multiples)]
        top = widths[0]
        self.first = nn.Conv2d(c, c, 1)
        self.heads = nn.ModuleList(self._head(top, c) for _ in TAPS)
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        before = top
        for place, own in enumerate(widths):
            parts: list[nn.Module] = []
            for _ in range(depth + 1):
                parts.append(Residual(before, own, c))
                parts += [Attend(own, WINDOW // 8, c)] if place == 1 else []
                before = own
            self.levels.append(Chain(parts))
            if place + 1 < len(widths):
                self.ups.append(_conv3(own, own))
        self.norm, self.last = Norm(before, c), _conv3(before, 3)

    @staticmethod
    def _head(top: int, c: int) -> Chain:
        around = [Residual(top, top, c), Attend(top, WINDOW // 4, c)]
        return Chain([Start(c, top), *around, Residual(top, top, c)])

    def forward(self, q: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine, coarse: masks of 0 and 1; the rest is medium."""
        start = self.first(q)
        own = [head(start, q) for head in self.heads]
        medium = F.avg_pool2d(1 - fine - coarse, 2)
        x = F.avg_pool2d(own[2], 4)
        for place, chain in enumerate(self.levels):
            if place == 1:
                x = x * F.avg_pool2d(coarse, 2) + F.avg_pool2d(own[1], 2) * medium
            elif place == 2:
                x = x * (1 - fine) + own[0] * fine
            x = chain(x, q)
            if place < len(self.ups):
                x = self.ups[place](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.last(F.silu(self.norm(x, q)))


@register("transform/vqgan")
class VqganTransform(ImageTransform):
    """The pair g_a, g_s of stride 4.

    Latents hold three words of c = (``channels`` - 2) / 3 numbers for each position, of
    which a granularity takes one, and two activities a as -1 - a (`activity`);
    reconstructed ones the word that was sent, and as the last two whether it is fine,
    and coarse. Latents that no quantizer has been at are decoded as the mean of three.
    ``width`` and ``multiples``: channels of H … H/16; ``depth``: blocks of a level.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 2, 4, 4),
        depth: int = 2,
        decoder_depth: int | None = None,
    ) -> None:
        super().__init__(channels, 4)
        self.word = word_of(channels)
        self.depths = depth, depth if decoder_depth is None else decoder_depth
        self.analysis = Encoder(width, multiples, self.depths[0], self.word)
        self.synthesis = Decoder(width, multiples, self.depths[1], self.word)

    def g_a(self, x: Tensor, level: Tensor) -> Tensor:
        """Prepared signals (B, 3, H, W) -> z (B, D, H/4, W/4)."""
        h, w = self.latent_size(*x.shape[2:])
        x = _whole(x, 16)
        taps = self.analysis(2 * x)
        size = taps[0].shape[2:]
        z = [F.interpolate(tap, size, mode="nearest") for tap in taps]
        rest = self.channels - 2 - 3 * self.word
        z.append(z[0].new_zeros(len(x), rest, *size))
        for side in (8, 16):
            found = -1 - activity(x + 0.5, side).to(z[0].dtype)
            z.append(F.interpolate(found, size, mode="nearest"))
        return torch.cat(z, 1)[:, :, :h, :w]

    def g_s(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """The reverse; -1 … 1 become prepared signals."""
        h, w = (self.stride * n for n in z_hat.shape[2:])
        z_hat = _whole(z_hat, 4)
        words = z_hat[:, : 3 * self.word].split(self.word, 1)
        fine, coarse = z_hat[:, -2:].clamp(0, 1).split(1, 1)
        fine, coarse = (m.where(z_hat[:, -2:-1] >= 0, 1 / 3) for m in (fine, coarse))
        coarse = coarse.minimum(1 - fine)
        q = words[0] * fine + words[1] * (1 - fine - coarse) + words[2] * coarse
        x_hat: Tensor = self.synthesis(q, fine, coarse) / 2
        return x_hat[:, :, :h, :w]

    @property
    def period(self) -> int:
        """Windows of attention."""
        return WINDOW

    def reach(self) -> tuple[int, int]:
        """See :meth:`ImageTransform.reach`: the farthest of three ways each."""
        one, pair = [reach.conv(3)], 2 * [reach.conv(3)]

        def blocks(depth: int, side: int = 0) -> list[reach.Step]:
            return depth * (pair + ([reach.windows(side)] if side else []))

        def tapped(side: int) -> list[reach.Step]:
            return [*pair, reach.windows(side), *pair]

        pixels, latents, there = 0, 0, list(one)
        for level in range(TAPS[-1] + 1):
            there += blocks(self.depths[0], WINDOW // 8 if level == 3 else 0)
            if level in TAPS:
                tap = [*tapped(WINDOW >> level), *one, reach.shuffle(1 << (level - 2))]
                pixels = max(pixels, reach.reach([*there, *tap], [], 4, WINDOW)[0])
            there.append(lambda a, b: (2 * a, 2 * b + 2))
        for place in range(3):  # from which head
            back = [*one, *tapped(WINDOW // 4)]
            back += [reach.unshuffle(1 << (2 - place))] if place < 2 else []
            for level in range(place, TAPS[-1] + 1):
                side = WINDOW // 8 if level == 1 else 0
                back += blocks(self.depths[1] + 1, side)
                if level < TAPS[-1]:
                    back += [reach.shuffle(2), *one]
            latents = max(latents, reach.reach([], [*back, *one], 4, WINDOW)[1])
        return pixels, latents


def _whole(x: Tensor, side: int) -> Tensor:
    """x (B, C, h, w) continued to whole cells of ``side`` positions."""
    h, w = x.shape[2:]
    return F.pad(x, (0, -w % side, 0, -h % side), mode="replicate")


def word_of(channels: int) -> int:
    """c, numbers of a word, of latents of so many channels."""
    return (channels - 2) // 3
