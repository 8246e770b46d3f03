# SPDX-License-Identifier: Apache-2.0
"""The Bayesian family: a network's weights are not rounded, they are a sample.

    x ── fit ──► posterior of weights ── a sample, as numbers under the prior ──► bytes
    x̂ ◄─ network ── weights ◄── drawn again ── numbers ◄────────────────────────────┘

    codes, in one row (1, 1, n)     sizes of the signal    not coded: a header says them
                                    numbers of the blocks of each piece, then of groups
                                    and of the whole, where there are such

A signal is cut into pieces of the size that the prior was learned for, padded at its
ends. A file has the same bits whatever is in it: so many blocks of so many bits. What
decides is integers alone; what a network makes of its weights may differ by a rounding.
He, Flamich, Guo, Hernández-Lobato 2024, RECOMBINER (arXiv 2309.17182); before it
COMBINER, Guo et al. 2023 (arXiv 2305.19185): a network without φ and without A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.codecs.families.parts import Options, signal_of
from polycodec.codecs.fitting.picture import PictureDecoder, PictureEncoder
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.fitting.progressive import Posteriors, Progressive
from polycodec.codecs.signals.grid import Grid
from polycodec.codecs.signals.tiles import ImageDecoder, ImageEncoder
from polycodec.codecs.transforms.base import Tiling
from polycodec.codecs.transforms.rate import Levels
from polycodec.codecs.transforms.reparametrized import Reparametrized, joined, parted
from polycodec.entropy_models import streams
from polycodec.entropy_models.models.samples import SamplesModel, Tier, tiers_of
from polycodec.entropy_models.relative.coders import (
    Chosen,
    Posterior,
    SampleCoder,
    SampleDecoder,
    SampleEncoder,
    SampleEstimator,
    drawn,
)
from polycodec.errors import InputError, ModelError
from polycodec.registry import register

TOGETHER = 128  # pieces that are fitted, or made, together
MOST_SAMPLES = 1 << 22  # of a signal, along all its axes


@register("codec/bayesian")
class BayesianCodec(Codec):
    """Networks, and priors of their weights, at each rate.

    ``piece``: sizes of a piece of the signal; ``group``: pieces of a group along each
    axis, for signals of many: weights are sums of three tiers then; None: pieces share
    nothing but their borders. ``bpp``: bits a pixel, or a sample, of each rate, that
    training aims at. ``network``: options of `Reparametrized`; ``fit``: of
    `Posteriors`; ``bits``: of a block, ``room``: of them left free on average.
    """

    family = "bayesian"
    fitted = True
    entropy: SamplesModel
    transform: Any = None  # what asks for one says that there is none
    betas: Tensor

    def __init__(
        self,
        *,
        signal: Options | str | None = None,
        piece: Sequence[int] = (32, 32),
        group: Sequence[int] | None = None,
        bpp: Sequence[float] = (0.3, 0.9, 1.5),
        network: Options | None = None,
        fit: Options | None = None,
        bits: int = 16,
        room: float = 0.0,
    ) -> None:
        super().__init__()
        self.signal = signal_of(signal, "image")
        axes = len(self.signal.shape) - 2
        self.piece = tuple(map(int, piece))
        self.group = None if group is None else tuple(map(int, group))
        given = (self.piece, self.piece if self.group is None else self.group)
        if any(len(one) != axes or min(one) < 1 for one in given):
            raise ModelError(
                f"pieces are {self.piece} and groups {self.group}; expected {axes} "
                f"sizes of at least 1, as a signal of {self.signal.kind} has"
            )
        if not bpp or min(bpp) <= 0 or not 1 <= bits <= 24 or not 0 <= room < bits:
            raise ModelError(
                f"rates are {tuple(bpp)} bits, blocks have {bits} and leave {room}; "
                "expected rates above 0, 1 … 24 bits, and less room than bits"
            )
        self.bpp, self.channels = tuple(map(float, bpp)), 1
        self.rates, self.recipe = Levels(len(bpp)), Posteriors(**(fit or {}))
        colours = int(self.signal.shape[1])
        self.networks = nn.ModuleList(
            Reparametrized(self.piece, colours, **(network or {})) for _ in bpp
        )
        self.samples = colours * math.prod(self.piece)
        first = []
        for rate in range(len(bpp)):
            own = self.network(rate)
            start = own.started()
            zero = torch.zeros(own.weights)
            more = {} if group is None else {"group": zero, "signal": zero.clone()}
            first.append({"piece": start, **more})
        self.entropy = SamplesModel(first, bits=bits, room=room)
        self.register_buffer("betas", torch.full((len(bpp),), 1e-6))

    def network(self, rate: int) -> Reparametrized:
        """The network of a rate, 0 …"""
        found: Any = self.networks[rate]
        made: Reparametrized = found
        return made

    @property
    def stride(self) -> int:
        """Pieces are this codec's business."""
        return 1

    @property
    def tiling(self) -> Tiling:
        """An image is one chunk of its file."""
        if self.signal.kind != "image":
            return super().tiling
        return Tiling(1, 1, None)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The sizes of the signal themselves; see `code`."""
        return tuple(size)

    def counts(self, size: Sequence[int]) -> tuple[int, ...]:
        """Pieces along each axis of a signal of ``size``; InputError for too many."""
        if math.prod(size) > MOST_SAMPLES:
            raise InputError(
                f"a signal of {tuple(size)} for '{self.name}'; expected at most "
                f"{MOST_SAMPLES} samples in all; it is for small ones: take another "
                "model"
            )
        return tuple(-(-n // p) for n, p in zip(size, self.piece, strict=True))

    def tiers(self, counts: Sequence[int]) -> list[Tier]:
        """What is sent of a signal of so many pieces along its axes."""
        own = self.network(0)
        return tiers_of(counts, self.group, own.weights, own.values)

    def image_encoder(
        self, pixels: np.ndarray, peak: int, tile: int, effort: int = 0
    ) -> ImageEncoder:
        self.counts(pixels.shape[:2])  # what is too large is refused before the work
        plan = Plan(steps=effort or None)
        return PictureEncoder(self, pixels, peak, plan=plan, together=True)

    def image_decoder(
        self, grid: Grid, quality: float, read_chunk: Callable[[int], bytes]
    ) -> ImageDecoder:
        return PictureDecoder(self, grid, quality, read_chunk, together=True)

    def forward(
        self, posteriors: Sequence[Posterior], counts: Sequence[int], rate: int
    ) -> tuple[Tensor, Tensor]:
        """Signals (B, C, *S) in [0, 1] of samples of posteriors, and bits (B,) of each.

        posteriors: one a tier, (B, R, N).
        """
        coder = SampleEstimator(len(posteriors[0].means))
        samples = self.entropy.code(coder, posteriors, (coder.bits.numel(),), rate=rate)
        return self.rendered(samples, self.tiers(counts), counts, rate), coder.bits

    def rendered(
        self,
        samples: Sequence[Tensor],
        tiers: Sequence[Tier],
        counts: Sequence[int],
        rate: int,
    ) -> Tensor:
        """Signals (B, C, *S) of samples (B, R, N), one a tier; whole pieces."""
        own, piece = self.network(rate), samples[0]
        h = piece[..., : own.weights]
        for tier, more in zip(tiers[1:], samples[1:], strict=True):
            h = h + more[:, tier.of.to(more.device)]
        encoded = None
        if own.values:
            z = piece[..., own.weights :]
            z = joined(z.unflatten(2, (own.latents, *own.grid)), counts)
            encoded = parted(own.upsampled(z), counts).flatten(0, 1)
        h = h.flatten(0, 1)
        if len(h) <= TOGETHER or torch.is_grad_enabled():
            x = own(h, encoded)
        else:
            some = [None] * len(h) if encoded is None else encoded.split(TOGETHER)
            pairs = zip(h.split(TOGETHER), some, strict=False)
            x = torch.cat([own(a, b) for a, b in pairs])
        return joined(x.unflatten(0, (len(piece), -1)), counts)

    def analyse(self, x: Tensor, level: float) -> Tensor:
        """Codes (B, 1, n) of prepared signals x: each is fitted, and sent."""
        return self._analysed(x, level, Plan())

    def _analysed(self, x: Tensor, level: float, plan: Plan) -> Tensor:
        low, high = self.signal.low, self.signal.high
        size, pieces = tuple(x.shape[2:]), math.prod(self.counts(x.shape[2:]))
        with torch.inference_mode(False), torch.enable_grad():
            x = (self.signal.restored(x.clone()) - low) / (high - low)
            ends = [(0, -n % p) for n, p in zip(size, self.piece, strict=True)]
            pads = [v for pair in reversed(ends) for v in pair]
            real = F.pad(torch.ones(size, device=x.device), pads)
            x = F.pad(x, pads, mode="replicate")
            head = torch.tensor(size, device=x.device).float()
            done = []
            for part in x.split(max(1, TOGETHER // pieces)):
                fit = Progressive(self, part, real, int(level) - 1, plan)
                numbers = [one.flatten(1).float() for one in fit.run()]
                heads = head.expand(len(part), -1)
                row = torch.cat([heads.cpu(), *numbers], dim=1)
                done.append(row[:, None].to(x.device))
            return torch.cat(done)

    def quantize(self, z: Tensor, level: float) -> Tensor:
        return torch.round(z)

    def code(
        self,
        coder: Any,
        codes: Tensor | None,
        level: float,
        size: tuple[int, ...] | None = None,
        *,
        side: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Codec.code`; ``size`` (B, *S) are sizes of the signal itself.

        coder: a `SampleCoder`.
        """
        assert isinstance(coder, SampleCoder)
        axes, rate = len(self.piece), int(level) - 1
        if size is None:
            assert codes is not None, "decoding needs the size of the signal"
            size = (len(codes), *map(int, codes[0, 0, :axes]))
        tiers = self.tiers(self.counts(size[1:]))
        given = None if codes is None else self._numbers(codes, tiers, rate)
        samples = None if given is None else [Chosen(one) for one in given]
        found = self.entropy.numbers(coder, samples, tiers, rate, size[0])
        head = torch.tensor(size[1:]).expand(size[0], -1).float()
        row = torch.cat([head, *(one.flatten(1).float() for one in found)], dim=1)
        return row[:, None].to(self.device)

    def _numbers(self, codes: Tensor, tiers: Sequence[Tier], rate: int) -> list[Tensor]:
        """Numbers (B, R, K) of codes (B, 1, n), a tensor a tier; InputError."""
        axes = len(self.piece)
        blocks = [len(self.entropy.prior(rate, tier).blocks) for tier in tiers]
        sizes = [t.rows * k for t, k in zip(tiers, blocks, strict=True)]
        if codes.shape[2] != axes + sum(sizes):
            raise InputError(
                f"codes have {codes.shape[2]} numbers; expected {axes + sum(sizes)} of "
                "a signal of these sizes at this level"
            )
        parts = codes[:, 0, axes:].long().cpu().split(sizes, dim=1)
        return [
            part.view(len(codes), tier.rows, -1)
            for part, tier in zip(parts, tiers, strict=True)
        ]

    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        return codes

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        """Prepared signals (B, C, *S) of codes (B, 1, n) of signals of one size."""
        axes, rate = len(self.piece), int(level) - 1
        size = tuple(map(int, z_hat[0, 0, :axes]))
        counts = self.counts(size)
        tiers = self.tiers(counts)
        samples = [
            tier.back(drawn(one, self.entropy.prior(rate, tier))).to(z_hat.device)
            for tier, one in zip(tiers, self._numbers(z_hat, tiers, rate), strict=True)
        ]
        x = self.rendered(samples, tiers, counts, rate)
        cut: tuple[Any, ...] = (..., *(slice(n) for n in size))
        low, high = self.signal.low, self.signal.high
        return self.signal.prepared(low + (high - low) * x[cut])

    def check_codes(self, codes: Tensor) -> None:
        axes = len(self.piece)
        if codes.ndim != 3 or codes.shape[1] != 1 or codes.shape[2] <= axes:
            raise InputError(
                f"codes have shape {tuple(codes.shape)}; expected (batch, 1, sizes and "
                "numbers)"
            )
        if bool((codes[:, 0, :axes] != codes[:1, 0, :axes]).any()):
            raise InputError("codes are of signals of several sizes; expected one size")

    def writing(self, codes: Tensor, thrifty: bool) -> Any:
        return SampleEncoder(len(codes))

    def reading(self, data: Sequence[bytes], context: streams.Contexts) -> Any:
        return SampleDecoder(data, context=context)

    def _encode(self, x: Tensor, level: float, plan: Plan | None) -> Tensor:
        self._require_entropy()
        level = self.check_level(level)
        x = self.signal.prepared(x.to(self.device))
        return self.quantize(self._analysed(x, level, plan or Plan()), level)

    def _decode(self, codes: Tensor, level: float) -> Tensor:
        """See :meth:`Codec._decode`; signals are made whole, never in windows."""
        return self.signals(codes, level)

    def _own_type(self) -> torch.dtype:
        return self.betas.dtype
